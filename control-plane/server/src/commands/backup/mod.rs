//! Backups: every row in one file that only the installation's secret key can have made.
//!
//! Owns making, checking and putting back. Refuses to hold the secret key itself: it is kept apart, and
//! without it a backup cannot be opened by anybody.

pub mod command;
pub mod create;
pub mod file;
pub mod manifest;
pub mod restore;
pub mod verify;

use rap_types::Reason;

use crate::failure::Failure;

pub(crate) fn altered(what: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::BackupAltered, what.to_string())
}
