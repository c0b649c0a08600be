//! Why local state could not be used, and the stable code of each cause.

use std::path::PathBuf;

use rap_runtime::files::FileError;
use rap_runtime::{Fault, exit};
use rap_types::Reason;

/// Why local state could not be read, written or trusted.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system refused a file operation.
    #[error(transparent)]
    File(#[from] FileError),
    /// No copy of a record is intact. Nothing was reset.
    #[error("{}: {why}", path.display())]
    Corrupt {
        /// First of the two files.
        path: PathBuf,
        /// What is wrong with each copy.
        why: String,
    },
    /// Written by another version of the program; not touched.
    #[error("{}: schema `{found}`, this program reads `{known}`", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Schema in the file.
        found: String,
        /// Schema this program reads and writes.
        known: String,
    },
    /// Another process uses the membership.
    #[error("{}: used by another process{}", path.display(), lock_owner.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Process id in it, if readable.
        lock_owner: Option<u32>,
    },
    /// Not usable as a membership name.
    #[error("membership name `{0}`: 1 to 32 of a-z 0-9 - and starting with a letter or digit")]
    MembershipName(String),
    /// The membership has an identity already.
    #[error("{}: the membership has an identity", .0.display())]
    Exists(PathBuf),
    /// A private file may be read or changed by others.
    #[error("{}: mode {mode:03o} exposes it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// The offered value is below what was already accepted.
    #[error("{what}: {offered} is below the floor {floor}")]
    Lowered {
        /// Which floor.
        what: &'static str,
        /// Value on disk.
        floor: String,
        /// Value that was refused.
        offered: String,
    },
    /// The same position with other contents.
    #[error("{what}: {at} was accepted with another digest")]
    Equivocation {
        /// Which floor.
        what: &'static str,
        /// The position.
        at: String,
    },
    /// The value would push the record or the cache over its size limit.
    #[error("{what}: {needed} bytes, limit {limit}")]
    Full {
        /// What is full.
        what: &'static str,
        /// Bytes it would have.
        needed: u64,
        /// Bytes it may have.
        limit: u64,
    },
    /// The cache did not answer before the deadline.
    #[error("the cache did not answer in time")]
    Timeout,
    /// The cache stopped writing (or never opened) for this cause.
    #[error("the cache stopped: {text}")]
    CacheFailed {
        /// Code of the cause.
        reason: Reason,
        /// The cause.
        text: String,
    },
    /// The cache was found damaged during this call, was moved aside and is empty now.
    #[error("the cache was damaged and is empty now: {0}")]
    CacheReset(String),
}

impl StateError {
    /// The reason of the shared table.
    pub fn reason(&self) -> Reason {
        match self {
            Self::File(source) => source.reason(),
            Self::Corrupt { .. } | Self::CacheReset(_) => Reason::StateCorrupt,
            Self::Schema { .. } => Reason::StateSchema,
            Self::Locked { .. } => Reason::StateLocked,
            Self::Exists(_) => Reason::MembershipExists,
            Self::MembershipName(_) => Reason::ConfigInvalid,
            Self::Exposed { .. } => Reason::SecretExposed,
            Self::Lowered { .. } => Reason::SnapshotRollback,
            Self::Equivocation { .. } => Reason::SnapshotEquivocation,
            Self::Full { .. } => Reason::StateFull,
            Self::Timeout => Reason::StateTimeout,
            Self::CacheFailed { reason, .. } => *reason,
        }
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.reason().code()
    }
}

impl From<StateError> for Fault {
    fn from(error: StateError) -> Self {
        Self::new(error.reason(), exit::message(&error))
    }
}
