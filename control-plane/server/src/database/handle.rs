//! The database as handlers and acts use it, and what this replica keeps outside of it.

use std::time::Duration;

use rap_store::Store;
use rap_types::Reason;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::database::replica_floors::FloorFile;
use crate::database::signed_copies::SignedCopies;
use crate::failure::Failure;

/// A pool of connections, and the floors of this replica.
#[derive(Debug)]
pub struct Database {
    /// The pool.
    pub store: Store,
    /// What this replica has seen signed and never accepts less of.
    pub floors: FloorFile,
    /// The bytes of what was signed last.
    pub copies: SignedCopies,
    joins: Semaphore,
}

impl Database {
    pub(crate) fn new(store: Store, floors: FloorFile, copies: SignedCopies) -> Self {
        Self { store, floors, copies, joins: Semaphore::new(JOINS_AT_ONCE) }
    }

    /// Waits until a join may take a connection. Joins of one cluster wait for each other inside the database: hundreds
    /// of them would hold every connection, and no version could be published for those that were admitted.
    ///
    /// # Errors
    /// `server.unavailable` after 10 s.
    pub(crate) async fn join_turn(&self) -> Result<SemaphorePermit<'_>, Failure> {
        let late = || Failure::new(Reason::ServerUnavailable, "too many hosts join at once");
        let turn = tokio::time::timeout(JOIN_TURN_WITHIN, self.joins.acquire()).await;
        turn.map_err(|_| late())?.map_err(|_| late())
    }

    /// True while every turn is taken.
    pub(crate) fn joins_wait(&self) -> bool {
        self.joins.available_permits() == 0
    }
}

const JOINS_AT_ONCE: usize = 4;
const JOIN_TURN_WITHIN: Duration = Duration::from_secs(10);

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
