//! Start of the private server: lock, version, directory, socket, process.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::binaries::Binaries;
use super::config::Configuration;
use super::error::PostgresError;
use super::initialise::{DATABASE, initialise};
use super::postmaster::Postmaster;
use super::supervise::{PostgresState, supervise};
use super::{pidfile, socket};

/// After this pause the first start is given up.
const LONGEST_FIRST_PAUSE: Duration = Duration::from_secs(4);

/// How the private server is made and found.
#[derive(Debug, Clone)]
pub struct EmbeddedSettings {
    /// The control plane's data directory; the server lives in `postgres` below it.
    pub data_dir: PathBuf,
    /// Directory of the PostgreSQL programs; `None` searches the system's (`RAP_POSTGRES_BIN_DIR`).
    pub bin_dir: Option<PathBuf>,
    /// Account the server runs as when this process is root.
    pub account: String,
    /// How long the first start may take, recovery included.
    pub start_deadline: Duration,
    pub(crate) databases: &'static str,
    pub(crate) durable: bool,
    pub(crate) extra_bootstrap: &'static str,
}

impl EmbeddedSettings {
    /// The defaults: the system's newest binaries, account `postgres`, two minutes.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bin_dir: None,
            account: "postgres".to_owned(),
            start_deadline: Duration::from_secs(120),
            databases: DATABASE,
            durable: true,
            extra_bootstrap: "",
        }
    }
}

/// The files of a server that may be started.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) binaries: Binaries,
    pub(super) account: Account,
    pub(super) directory: PathBuf,
    socket_directory: PathBuf,
    log: PathBuf,
}

impl Installed {
    pub(super) fn spawn(&self) -> Result<Postmaster, PostgresError> {
        Postmaster::spawn(&self.binaries, &self.account, &self.directory, &self.log)
    }
}

/// A private PostgreSQL that takes connections. [`Self::supervise`] must be driven for it to be
/// started again after a death; dropping it stops the server.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    installed: Installed,
    postmaster: Postmaster,
    state: watch::Sender<PostgresState>,
    /// Held as long as the server may run.
    _lock: File,
}

impl EmbeddedPostgres {
    /// Makes the server's directory if there is none, stops a server that an earlier control plane
    /// left, starts a new one and waits until it takes connections.
    pub async fn start(settings: &EmbeddedSettings) -> Result<Self, PostgresError> {
        let data_dir = settings.data_dir.as_path();
        fs::create_dir_all(data_dir).map_err(PostgresError::io("make", data_dir))?;
        let data_dir = &data_dir.canonicalize().map_err(PostgresError::io("resolve", data_dir))?;
        let lock = lock(&data_dir.join("postgres.lock"))?;
        let account = Account::resolve(&settings.account)?;
        account.arrange_passage(data_dir)?;

        let directory = data_dir.join("postgres");
        let made_by = made_by(&directory)?;
        let wanted = made_by.as_deref().and_then(|version| version.parse().ok());
        let binaries = Binaries::find(settings.bin_dir.as_deref(), wanted)?;
        match made_by {
            Some(found) if wanted != Some(binaries.major()) => {
                return Err(PostgresError::Version { directory, found, available: binaries.major() });
            }
            Some(_) => pidfile::clear_orphan(&directory).await?,
            None => {
                initialise(&binaries, &account, &directory, settings.durable, settings.extra_bootstrap)
                    .await?;
            }
        }
        let socket_directory = socket::socket_directory(data_dir, &account, rand::random())?;
        let configuration = Configuration {
            directory: &directory,
            socket_directory: &socket_directory,
            client_account: &Account::own_name()?,
            databases: settings.databases,
            durable: settings.durable,
        };
        configuration.write(&account)?;

        let installed =
            Installed { binaries, account, directory, socket_directory, log: data_dir.join("postgres.log") };
        let postmaster = tokio::time::timeout(settings.start_deadline, first_start(&installed))
            .await
            .map_err(|_| PostgresError::NotReady("the start deadline passed".to_owned()))??;
        let state = watch::Sender::new(PostgresState::Ready { restarts: 0, pid: postmaster.pid() });
        Ok(Self { installed, postmaster, state, _lock: lock })
    }

    /// How to connect to database `rap` as the database role `role`.
    pub(crate) fn connect_options(&self, role: &str) -> PgConnectOptions {
        options_at(&self.installed.socket_directory, role)
    }

    /// How to connect to the server that another process runs from this data directory. Says nothing
    /// of whether one does.
    pub(crate) fn options_of_running(
        settings: &EmbeddedSettings,
        role: &str,
    ) -> Result<PgConnectOptions, PostgresError> {
        Ok(options_at(&pidfile::socket_directory(&settings.data_dir.join("postgres"))?, role))
    }

    /// Major version of the server.
    pub fn major(&self) -> u32 {
        self.installed.binaries.major()
    }

    /// What the supervisor last saw; the newest value only.
    pub fn state(&self) -> watch::Receiver<PostgresState> {
        self.state.subscribe()
    }

    /// Starts the server again whenever it dies, with a growing pause, until `shutdown`; then stops
    /// it and returns. Cancel after every pool is closed.
    pub async fn supervise(self, shutdown: CancellationToken) {
        let Self { installed, postmaster, state, _lock, .. } = self;
        supervise(&installed, postmaster, &state, &shutdown).await;
    }

    /// Leaves the server running without its control plane, as a SIGKILL would.
    #[cfg(test)]
    pub(crate) fn abandon(self) {
        self.postmaster.abandon();
    }

    /// Stops the server.
    pub async fn stop(self) {
        self.postmaster.stop().await;
        self.state.send_replace(PostgresState::Stopped);
    }
}

fn options_at(socket_directory: &Path, role: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_directory)
        .port(5432)
        .ssl_mode(PgSslMode::Disable)
        .username(role)
        .database(DATABASE)
}

/// Starts the server. A server whose control plane was killed ends some seconds later, and processes of a killed server
/// hold its shared memory for a moment longer: a start that ends at once is tried again for 6 s.
async fn first_start(installed: &Installed) -> Result<Postmaster, PostgresError> {
    let mut pause = Duration::from_millis(50);
    loop {
        let mut postmaster = installed.spawn()?;
        match postmaster.ready().await {
            Ok(()) => return Ok(postmaster),
            Err(error) if pause > LONGEST_FIRST_PAUSE => return Err(error),
            Err(error) => tracing::warn!(%error, "PostgreSQL did not start; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// Takes the lock that says which process may run the server; it goes with the process.
fn lock(path: &Path) -> Result<File, PostgresError> {
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.map_err(PostgresError::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(PostgresError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(PostgresError::io("lock", path)(error)),
    }
}

/// Version that made an existing server directory.
fn made_by(directory: &Path) -> Result<Option<String>, PostgresError> {
    let file = directory.join("PG_VERSION");
    match fs::read_to_string(&file) {
        Ok(version) => Ok(Some(version.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => Ok(None),
        Err(error) => Err(PostgresError::io("read", &file)(error)),
    }
}
