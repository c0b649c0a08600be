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

/// [`rap_store::transact!`] on a store, for work that ends in a [`Failure`](crate::failure::Failure):
/// `transact!(database.store, |connection| Ok(token_insert(connection, &new).await?))?`.
macro_rules! transact {
    ($store:expr, |$connection:ident| $work:expr) => {{
        let outcome: Result<_, $crate::failure::Failure> =
            rap_store::transact!($store.system(), |$connection| $work);
        outcome
    }};
}
pub(crate) use transact;
