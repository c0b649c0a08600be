//! Backups: every row in one file that only the installation's secret key can have made.
//!
//! Owns making, checking and putting back. Refuses to hold the secret key itself: it is kept apart, and
//! without it a backup cannot be opened by anybody.

mod command;
mod create;
mod file;
mod manifest;
mod restore;
mod verify;

pub(crate) use command::{BackupCommand, run};
pub use create::{Created, create};
pub use manifest::{ClusterAt, Manifest};
pub use restore::{Restored, prepare, restore};
pub use verify::{Checked, Depth, verify};

use rap_runtime::Fault;
use rap_store::StoreError;
use rap_types::Reason;

use crate::grpc::Failure;

/// What went wrong, for an operator.
fn fault(error: StoreError) -> Fault {
    Fault::new(error.reason(), error.to_string())
}

fn failed(failure: Failure) -> Fault {
    Fault::new(failure.reason, failure.message)
}

fn altered(what: impl std::fmt::Display) -> Fault {
    Fault::new(Reason::BackupAltered, what.to_string())
}
