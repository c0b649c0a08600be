//! The database as handlers and acts use it, and what this replica keeps outside of it.

use rap_store::Store;

use crate::database::replica_floors::FloorFile;

/// A pool of connections, and the floors of this replica.
#[derive(Debug)]
pub struct Database {
    /// The pool.
    pub store: Store,
    /// What this replica has seen signed and never accepts less of.
    pub floors: FloorFile,
}
