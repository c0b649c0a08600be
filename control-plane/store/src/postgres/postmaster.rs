//! One running server process.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;

use super::account::Account;
use super::binaries::Binaries;
use super::error::PostgresError;
use super::initialise::last_lines;
use super::pidfile::{self, POLL};

/// The log is turned over at a start when it is longer than this.
const LOG_LIMIT: u64 = 4 << 20;

/// How long a fast, then an immediate shutdown may take before the next harder one.
const FAST: Duration = Duration::from_secs(20);
const IMMEDIATE: Duration = Duration::from_secs(5);

/// A started server. Dropping it asks the server to stop, without waiting.
#[derive(Debug)]
pub(super) struct Postmaster {
    child: Child,
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
        let program = binaries.program("postgres");
        let child = account
            .command(&program)
            .arg("-D")
            .arg(directory)
            // A group of its own: a Ctrl-C at the terminal is for the control plane, which still
            // needs its database while it drains.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(open_log(log)?)
            .spawn()
            .map_err(PostgresError::io("run", &program))?;
        let pid = child.id().ok_or_else(|| PostgresError::NotReady("it ended at once".to_owned()))?;
        Ok(Self { child, pid, directory: directory.to_owned(), log: log.to_owned() })
    }

    /// Process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the server takes connections; fails when it ends instead.
    pub(super) async fn ready(&mut self) -> Result<(), PostgresError> {
        loop {
            if pidfile::is_ready(&self.directory, self.pid) {
                return Ok(());
            }
            tokio::select! {
                status = self.child.wait() => {
                    let status = status.map(|status| status.to_string()).unwrap_or_default();
                    return Err(PostgresError::NotReady(format!("{status}: {}", self.log_tail())));
                }
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Waits until the server ends.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Stops the server: fast, then immediate, then by force.
    pub(super) async fn stop(mut self) {
        for (signal, patience) in [(Signal::SIGINT, FAST), (Signal::SIGQUIT, IMMEDIATE)] {
            self.signal(signal);
            if tokio::time::timeout(patience, self.child.wait()).await.is_ok() {
                return;
            }
            tracing::warn!(%signal, "PostgreSQL does not stop");
        }
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "PostgreSQL cannot be killed");
        }
    }

    /// Signals the process only while it is our unreaped child, so the id cannot be another's.
    fn signal(&mut self, signal: Signal) {
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), i32::try_from(self.pid)) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
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

impl Drop for Postmaster {
    fn drop(&mut self) {
        self.signal(Signal::SIGINT);
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
