//! The term of the sequencer: which replica gives entries their places now.

use std::time::Duration;

use rap_contract::Signer;
use rap_store::{PgConnection, audit_term_end, audit_term_renew, audit_term_seize, audit_term_take};
use rap_types::Reason;

use crate::database::handle::{Database, transact};
use crate::failure::Failure;

/// The key of a generation.
#[derive(Debug)]
pub(super) struct LogKey {
    pub(super) generation: u64,
    pub(super) signer: Signer,
}

/// The term of this replica on the sequence, if it has one, and the key it signs with.
#[derive(Debug)]
pub(super) struct SequencerTerm {
    id: [u8; 16],
    term: Option<u64>,
    pub(super) key: Option<LogKey>,
}

impl SequencerTerm {
    pub(super) fn new() -> Self {
        Self { id: rap_authority::ids::random(&mut rand::rng()), term: None, key: None }
    }

    /// A new term, whoever has the present one.
    pub(super) async fn seize(&mut self, database: &Database) -> Result<u64, Failure> {
        let id = self.id;
        let term =
            transact!(database.store, |connection| { Ok(audit_term_seize(connection, id, TERM).await?) })?;
        self.term = Some(term);
        Ok(term)
    }

    /// The term, if this replica has or gets one.
    pub(super) async fn hold(&mut self, database: &Database) -> Result<Option<u64>, Failure> {
        let (id, held) = (self.id, self.term);
        self.term = transact!(database.store, |connection| held_or_taken(connection, id, held).await)?;
        Ok(self.term)
    }

    /// Ends the term.
    pub(super) async fn release(&mut self, database: &Database) {
        let (id, Some(term)) = (self.id, self.term.take()) else { return };
        let ended = transact!(database.store, |connection| Ok(audit_term_end(connection, id, term).await?));
        if let Err(failure) = ended {
            tracing::debug!(reason = %failure.reason, "the sequencer's term runs out by itself");
        }
    }
}

async fn held_or_taken(
    connection: &mut PgConnection,
    id: [u8; 16],
    held: Option<u64>,
) -> Result<Option<u64>, Failure> {
    if let Some(term) = held
        && audit_term_renew(connection, id, term, TERM).await?
    {
        return Ok(Some(term));
    }
    Ok(audit_term_take(connection, id, TERM).await?)
}

pub(super) fn fenced() -> Failure {
    Failure::new(Reason::AuditFenced, "another replica took over the audit log")
}

/// Length of a term.
const TERM: Duration = Duration::from_secs(5);
