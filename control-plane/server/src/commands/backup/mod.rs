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

use rap_runtime::Fault;
use rap_store::StoreError;
use rap_types::Reason;

use crate::failure::Failure;

/// What went wrong, for an operator.
pub(crate) fn fault(error: StoreError) -> Fault {
    Fault::new(error.reason(), error.to_string())
}

pub(crate) fn failed(failure: Failure) -> Fault {
    Fault::new(failure.reason, failure.message)
}

pub(crate) fn altered(what: impl std::fmt::Display) -> Fault {
    Fault::new(Reason::BackupAltered, what.to_string())
}
