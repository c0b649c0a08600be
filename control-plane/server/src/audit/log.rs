//! What this replica knows of the audit tree: verified leaves, the newest checkpoint, and what it
//! found wrong.
//!
//! Owns the memory and the proofs made from it. Refuses to read the database (see `follow`). Once
//! something was found, nothing is signed until the log begins a new generation or the process starts
//! anew and finds nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rap_contract::{AuditTree, Checkpoint, LogKeyChain};
use rap_types::{Digest, Reason};
use rap_wire::v1;
use tokio::sync::watch;

use crate::audit::term::SequencerTerm;
use crate::failure::Failure;

/// A checkpoint and the note that signs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The signed note.
    pub note: Vec<u8>,
}

/// Something that must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditFinding {
    /// Stable code.
    pub reason: Reason,
    /// What was found.
    pub what: &'static str,
}

impl AuditFinding {
    /// A finding.
    pub const fn new(reason: Reason, what: &'static str) -> Self {
        Self { reason, what }
    }

    pub(super) const fn tampered(what: &'static str) -> Self {
        Self::new(Reason::AuditTampered, what)
    }

    pub(super) const fn inconsistent(what: &'static str) -> Self {
        Self::new(Reason::AuditInconsistent, what)
    }

    pub(super) const fn rollback(what: &'static str) -> Self {
        Self::new(Reason::AuditRollback, what)
    }
}

/// The audit tree of this replica.
#[derive(Debug)]
pub struct AuditLog {
    state: Mutex<State>,
    /// One reader of the database at a time; with it, the sequencer's term.
    pub(super) turn: tokio::sync::Mutex<SequencerTerm>,
    newest: watch::Sender<Option<Arc<Signed>>>,
    rounds: AtomicU64,
}

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(super) tree: AuditTree,
    pub(super) keys: Option<LogKeyChain>,
    pub(super) newest: Option<Arc<Signed>>,
    pub(super) finding: Option<AuditFinding>,
    pub(super) waiting: u64,
    pub(super) sequencer: bool,
    pub(super) swept: u64,
}

impl Default for AuditLog {
    fn default() -> Self {
        let newest = watch::Sender::new(None);
        Self {
            state: Mutex::default(),
            turn: tokio::sync::Mutex::new(SequencerTerm::new()),
            newest,
            rounds: AtomicU64::new(0),
        }
    }
}

impl AuditLog {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was found; the first finding stays. True if it is the first.
    pub(super) fn found(&self, finding: AuditFinding) -> bool {
        let mut state = self.state();
        let first = state.finding.is_none();
        state.finding.get_or_insert(finding);
        first
    }

    /// A round of the task came to its end, signed or not.
    pub(super) fn round_ended(&self) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    /// How many rounds of the task came to their end.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// A checkpoint was verified against the tree.
    pub(super) fn adopt(&self, signed: Signed) {
        let signed = Arc::new(signed);
        let mut state = self.state();
        if state.newest.as_ref().is_some_and(|known| known.checkpoint == signed.checkpoint) {
            return;
        }
        state.newest = Some(signed.clone());
        drop(state);
        self.newest.send_replace(Some(signed));
    }

    /// Forgets everything, for reading it anew.
    pub(super) fn forget(&self) {
        *self.state() = State::default();
        self.newest.send_replace(None);
    }

    /// The newest checkpoint, as it changes.
    pub fn newest(&self) -> watch::Receiver<Option<Arc<Signed>>> {
        self.newest.subscribe()
    }

    /// What was found, if anything.
    pub fn finding(&self) -> Option<AuditFinding> {
        self.state().finding
    }

    /// The log's keys; `None` before the first replica sequenced.
    pub fn keys(&self) -> Option<LogKeyChain> {
        self.state().keys.clone()
    }

    /// Root of the tree with `size` entries, if it ever was that large here.
    pub fn root(&self, size: u64) -> Option<Digest> {
        self.state().tree.root(size)
    }

    /// Proof that the tree with `new` entries begins with the one with `old`.
    pub fn consistency(&self, old: u64, new: u64) -> Option<Vec<Vec<u8>>> {
        self.state().tree.consistency(old, new).map(bytes)
    }

    /// Paths of entries in the tree with `size` entries.
    ///
    /// # Errors
    /// `request.invalid` for an index outside of it.
    pub fn inclusion(&self, size: u64, indexes: &[u64]) -> Result<Vec<v1::AuditPath>, Failure> {
        let outside = || Failure::new(Reason::RequestInvalid, "an index is outside the tree");
        let state = self.state();
        let path = |index: &u64| {
            let hashes = state.tree.inclusion(*index, size).ok_or_else(outside)?;
            Ok(v1::AuditPath { hashes: bytes(hashes) })
        };
        indexes.iter().map(path).collect()
    }

    /// What a node is told: the newest checkpoint, and the proof from the one it holds.
    pub fn witness(&self, signed: &Signed, held: Option<(u64, u64)>) -> Option<v1::AuditWitness> {
        let state = self.state();
        let Checkpoint { generation, size, .. } = signed.checkpoint;
        let consistency = match held {
            Some((of, from)) if of == generation => state.tree.consistency(from, size).map(bytes)?,
            Some(_) | None => Vec::new(),
        };
        Some(v1::AuditWitness {
            log_key_records: state.keys.as_ref()?.envelopes().to_vec(),
            checkpoint: signed.note.clone(),
            consistency,
        })
    }

    /// How the log fares.
    pub fn status(&self) -> v1::AuditStatus {
        let state = self.state();
        let newest = state.newest.as_ref().map(|signed| signed.checkpoint);
        v1::AuditStatus {
            state: if state.finding.is_some() { "stopped" } else { "ok" }.to_owned(),
            reason: state.finding.map(|finding| finding.reason.code().to_owned()).unwrap_or_default(),
            what: state.finding.map(|finding| finding.what.to_owned()).unwrap_or_default(),
            generation: newest.map_or(0, |checkpoint| checkpoint.generation),
            size: state.tree.size(),
            checkpoint_size: newest.map_or(0, |checkpoint| checkpoint.size),
            unsequenced: state.waiting,
            sequencer: state.sequencer,
        }
    }
}

fn bytes(hashes: Vec<Digest>) -> Vec<Vec<u8>> {
    hashes.into_iter().map(Digest::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_finding_stays() {
        let log = AuditLog::default();
        assert!(log.found(AuditFinding::tampered("one")));
        assert!(!log.found(AuditFinding::rollback("two")));
        assert_eq!(log.finding(), Some(AuditFinding::tampered("one")));
        assert_eq!(log.status().state, "stopped");
    }
}
