//! The term of the sequencer: which replica gives entries their places now.

use std::time::Duration;

use rap_store::{PgConnection, audit_term_end, audit_term_renew, audit_term_seize, audit_term_take};

use crate::audit::log::AuditLog;
use crate::audit::sequence::LogKey;
use crate::database::handle::Database;
use crate::failure::Failure;

/// The lease of this replica on the sequence, and the key it signs with.
#[derive(Debug)]
pub(crate) struct SequencerTerm {
    id: [u8; 16],
    fence: Option<u64>,
    pub(crate) key: Option<LogKey>,
}

impl SequencerTerm {
    pub(super) fn new() -> Self {
        Self { id: rap_authority::ids::random(&mut rand::rng()), fence: None, key: None }
    }

    /// The fence, whoever has the lease now.
    pub(super) async fn seize(&mut self, database: &Database) -> Result<u64, Failure> {
        let id = self.id;
        let fence: Result<u64, Failure> =
            rap_store::transact!(database.store.system(), |connection| audit_term_seize(
                connection, id, LEASE
            )
            .await
            .map_err(Failure::from));
        let fence = fence?;
        self.fence = Some(fence);
        Ok(fence)
    }

    /// The fence, if this replica has or gets the lease.
    pub(super) async fn hold(&mut self, database: &Database, log: &AuditLog) -> Result<Option<u64>, Failure> {
        let (id, held) = (self.id, self.fence);
        let fence: Result<Option<u64>, Failure> =
            rap_store::transact!(database.store.system(), |connection| {
                held_or_taken(connection, id, held).await
            });
        self.fence = fence?;
        log.state().sequencer = self.fence.is_some();
        Ok(self.fence)
    }

    /// Gives the lease back.
    pub(super) async fn release(&mut self, database: &Database, log: &AuditLog) {
        let (id, Some(fence)) = (self.id, self.fence.take()) else { return };
        let ended: Result<(), Failure> = rap_store::transact!(database.store.system(), |connection| {
            audit_term_end(connection, id, fence).await.map_err(Failure::from)
        });
        log.state().sequencer = false;
        if let Err(failure) = ended {
            tracing::debug!(reason = %failure.reason, "the sequencer's lease runs out by itself");
        }
    }
}

async fn held_or_taken(
    connection: &mut PgConnection,
    id: [u8; 16],
    held: Option<u64>,
) -> Result<Option<u64>, Failure> {
    if let Some(fence) = held
        && audit_term_renew(connection, id, fence, LEASE).await?
    {
        return Ok(Some(fence));
    }
    Ok(audit_term_take(connection, id, LEASE).await?)
}

/// Life of the lease.
const LEASE: Duration = Duration::from_secs(5);
