//! One running server and its guard.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::account::Account;
use super::binaries::Binaries;
use super::error::PostgresError;
use super::guard::Guard;
use super::initialise::last_lines;
use super::pidfile::{self, POLL};

/// The log is turned over at a start when it is longer than this.
const LOG_LIMIT: u64 = 4 << 20;

/// How long the guard takes at most to stop the server, the last signal included.
const LONGEST_STOP: Duration = Duration::from_secs(30);

/// A started server. Dropping it asks the server to stop, without waiting.
#[derive(Debug)]
pub(super) struct Postmaster {
    guard: Guard,
    /// Process id of the server; 0 until it is ready.
    pid: u32,
    directory: PathBuf,
    log: PathBuf,
}

impl Postmaster {
    /// Starts the server; it may still be recovering when this returns.
    pub(super) fn spawn(
        binaries: &Binaries,
        account: &Account,
        directory: &Path,
        log: &Path,
    ) -> Result<Self, PostgresError> {
        let guard = Guard::spawn(&binaries.program("postgres"), account, directory, open_log(log)?)?;
        Ok(Self { guard, pid: 0, directory: directory.to_owned(), log: log.to_owned() })
    }

    /// Process id of the server.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the server takes connections; fails when it ends instead.
    pub(super) async fn ready(&mut self) -> Result<(), PostgresError> {
        self.pid = self.guard.server().await?;
        loop {
            if pidfile::is_ready(&self.directory, self.pid) {
                return Ok(());
            }
            tokio::select! {
                status = self.guard.ended() => {
                    let status = status.map(|status| status.to_string()).unwrap_or_default();
                    return Err(PostgresError::NotReady(format!("{status}: {}", self.log_tail())));
                }
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Waits until the server ends.
    pub(super) async fn ended(&mut self) -> String {
        match self.guard.ended().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Stops the server: fast, then immediate, then by force.
    pub(super) async fn stop(mut self) {
        self.guard.close();
        if tokio::time::timeout(LONGEST_STOP, self.guard.ended()).await.is_err() {
            tracing::warn!("PostgreSQL cannot be killed");
        }
    }

    /// Leaves the server running, as if its guard did not work.
    #[cfg(test)]
    pub(super) fn abandon(self) {
        self.guard.forget();
    }

    fn log_tail(&self) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(2048)))?;
            let mut tail = Vec::new();
            file.take(2048).read_to_end(&mut tail)?;
            Ok(tail)
        };
        last_lines(&read().unwrap_or_default())
    }
}

fn open_log(path: &Path) -> Result<File, PostgresError> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_LIMIT) {
        let older = path.with_extension("log.1");
        fs::rename(path, &older).map_err(PostgresError::io("turn over", path))?;
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    options.open(path).map_err(PostgresError::io("open", path))
}
