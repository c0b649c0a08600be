//! Why the private PostgreSQL cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use rap_types::Reason;

/// A refusal or failure of the private PostgreSQL. Carries no secret: the server's log never holds
/// statement text or parameters.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No binaries of a supported version.
    #[error(
        "no PostgreSQL {oldest} or newer found in {searched}; install the package `postgresql`, name its \
         bin directory with RAP_POSTGRES_BIN_DIR, or give --database-url"
    )]
    Missing {
        /// Oldest major version that is accepted.
        oldest: u32,
        /// Where was looked.
        searched: String,
    },
    /// The directory was made by another major version than the binaries at hand.
    #[error(
        "{} was made by PostgreSQL {found}, the binaries here are {available}; install PostgreSQL {found}, or \
         move the data with pg_dump and pg_restore (pg_upgrade in place is not done)",
        directory.display()
    )]
    Version {
        /// The server's directory.
        directory: PathBuf,
        /// Major version that wrote it.
        found: String,
        /// Major version of the binaries.
        available: u32,
    },
    /// Another process holds the directory.
    #[error("another process uses {}; a control plane that serves with it must be stopped first", .0.display())]
    Locked(PathBuf),
    /// The unprivileged account does not exist.
    #[error("running as root needs an unprivileged account for PostgreSQL; `{0}` does not exist")]
    AccountMissing(String),
    /// The unprivileged account cannot reach the directory.
    #[error(
        "account `{account}` cannot enter {}; choose a data directory whose parents others may enter",
        directory.display()
    )]
    Unreachable {
        /// Account that PostgreSQL runs as.
        account: String,
        /// First directory that stops it.
        directory: PathBuf,
    },
    /// The socket directory belongs to somebody else.
    #[error("{} is not a private directory of the PostgreSQL account", .0.display())]
    SocketDirectory(PathBuf),
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A PostgreSQL program failed.
    #[error("{program} failed: {output}")]
    Program {
        /// Which program.
        program: &'static str,
        /// Last lines it printed.
        output: String,
    },
    /// The server did not become ready within its deadline.
    #[error("PostgreSQL was not ready in time: {0}")]
    NotReady(String),
}

impl PostgresError {
    /// The stable code of this refusal.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Missing { .. } => Reason::PostgresMissing,
            Self::Version { .. } => Reason::PostgresVersion,
            Self::Locked(_) => Reason::StateLocked,
            Self::AccountMissing(_) | Self::Unreachable { .. } | Self::SocketDirectory(_) => {
                Reason::ConfigInvalid
            }
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Reason::StateNoSpace,
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Reason::StateReadOnly,
                _ => Reason::StateIo,
            },
            Self::Program { output, .. } | Self::NotReady(output) => printed(output),
        }
    }

    /// Names what was tried on which path, for `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// The code of what a PostgreSQL program printed; its messages are in English (`LC_ALL=C`).
fn printed(output: &str) -> Reason {
    if output.contains("No space left on device") {
        Reason::StateNoSpace
    } else if output.contains("Read-only file system") {
        Reason::StateReadOnly
    } else {
        Reason::StoreUnavailable
    }
}
