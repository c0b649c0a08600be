//! What waits for the disk, in order: one write is under way, the rest waits here and in memory.
//!
//! Why this is sound: an input that says that something is on disk is made from the answer of the persist task
//! alone, so that whatever depends on it comes after it; whatever does not depend on it is never behind it.
//! Only one write is under way, so that two of them cannot pass each other.
//!
//! Owns the order, the bound, and which write replaces an earlier one. Refuses to write.

use std::collections::VecDeque;
use std::sync::Arc;

use rap_contract::VerifiedSnapshot;
use rap_runtime::Fault;
use rap_trust::{Admission, AuditEvidence, HeldCheckpoint, PersistId, Record, StoredBreakGlass};
use rap_types::{Digest, Mono};
use tokio::sync::{mpsc, oneshot};

use crate::membership::{StoredCertificate, StoredTime};

/// Who asked that a break-glass file is applied, and gets it as status shows it.
pub(super) type BreakGlassReply = oneshot::Sender<Result<serde_json::Value, Fault>>;

/// One write.
pub(super) enum Write {
    /// A record of the acceptor; what depends on it waits for `Persisted`.
    Record(PersistId, Box<Record>),
    /// Remove every snapshot but this one, which is in use.
    KeepOnly(Arc<VerifiedSnapshot>),
    /// Break-glass files, with one that counts once they are written.
    ApplyBreakGlass(Box<Admission>, BreakGlassReply),
    /// Break-glass files, without one that an operator dropped.
    DropBreakGlass(Digest, Box<StoredBreakGlass>, BreakGlassReply),
    /// Break-glass files, with what the control plane acknowledged.
    BreakGlass(Box<StoredBreakGlass>),
    /// The largest checkpoint of the audit log that was verified.
    Checkpoint(Box<HeldCheckpoint>),
    /// Proof that two histories of the audit log are signed.
    AuditEvidence(Box<AuditEvidence>),
    /// The certificate in use.
    Certificate(StoredCertificate),
    /// Trusted time.
    Time(StoredTime),
}

/// A write that ended, and how.
pub(super) struct Written(pub(super) Write, pub(super) Result<(), Fault>);

/// What waits. Break-glass files are looked at when their turn comes: the write before may have changed them.
pub(super) enum Waiting {
    /// A write that is ready.
    Ready(Write),
    /// A break-glass file to be judged and applied.
    BreakGlassText(String, BreakGlassReply),
    /// An operator dropped a break-glass file.
    BreakGlassDropped(Digest, BreakGlassReply),
    /// The control plane acknowledged break-glass files.
    BreakGlassAcknowledged,
}

/// The queue in front of the persist task.
pub(super) struct Disk {
    writes: mpsc::Sender<Write>,
    waiting: VecDeque<Waiting>,
    since: Option<Mono>,
}

impl Disk {
    /// An empty queue; `writes` is the persist task's.
    pub(super) const fn new(writes: mpsc::Sender<Write>) -> Self {
        Self { writes, waiting: VecDeque::new(), since: None }
    }

    /// Puts it at the end; one of its kind that only the newest counts of is replaced.
    ///
    /// # Errors
    /// What was to wait, if [`WAITING_CAP`] wait already.
    pub(super) fn add(&mut self, new: Waiting) -> Result<(), Waiting> {
        if let Some(same) = self.waiting.iter_mut().find(|old| old.is_replaced_by(&new)) {
            *same = new;
            return Ok(());
        }
        if self.waiting.len() >= WAITING_CAP {
            return Err(new);
        }
        self.waiting.push_back(new);
        Ok(())
    }

    /// Puts it before everything that waits: what a snapshot in use makes superfluous goes before the next
    /// snapshot is written, never after it.
    pub(super) fn add_first(&mut self, write: Write) {
        self.waiting.push_front(Waiting::Ready(write));
    }

    /// The next that waits, if no write is under way.
    pub(super) fn next(&mut self) -> Option<Waiting> {
        if self.since.is_some() { None } else { self.waiting.pop_front() }
    }

    /// Hands a write to the persist task. Only after [`Self::next`] gave it out.
    pub(super) fn begin(&mut self, write: Write, now: Mono) {
        self.since = Some(now);
        // The queue of the task has one place and no write is under way; the task is gone only if the membership ends.
        let _ = self.writes.try_send(write);
    }

    /// Hands the last of all writes to the persist task, which takes it after the one that is under way.
    pub(super) fn last(&self, write: Write) {
        // The queue has its one place free: the persist task took what is under way out of it, or will not come to
        // this one, and what is on disk is at most a minute old.
        let _ = self.writes.try_send(write);
    }

    /// The write that was under way ended.
    pub(super) const fn ended(&mut self) {
        self.since = None;
    }

    /// Since when a write is under way.
    pub(super) const fn since(&self) -> Option<Mono> {
        self.since
    }
}

impl Waiting {
    fn is_replaced_by(&self, new: &Self) -> bool {
        match (self, new) {
            (Self::BreakGlassAcknowledged, Self::BreakGlassAcknowledged) => true,
            (Self::Ready(old), Self::Ready(new)) => matches!(
                (old, new),
                (Write::Checkpoint(_), Write::Checkpoint(_))
                    | (Write::Certificate(_), Write::Certificate(_))
                    | (Write::Time(_), Write::Time(_))
                    | (Write::AuditEvidence(_), Write::AuditEvidence(_))
            ),
            _ => false,
        }
    }
}

/// Most that waits. The acceptor hands out four records at most; the rest is for break-glass files.
const WAITING_CAP: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Waiting {
        Waiting::BreakGlassText(text.to_owned(), oneshot::channel().0)
    }

    fn checkpoint(note: u8) -> Waiting {
        Waiting::Ready(Write::Checkpoint(Box::new(HeldCheckpoint { records: Vec::new(), note: vec![note] })))
    }

    #[test]
    fn one_write_is_under_way_and_the_newest_checkpoint_waits_once() {
        let (writes, mut taken) = mpsc::channel(1);
        let mut disk = Disk::new(writes);
        disk.add(checkpoint(1)).ok().unwrap();
        disk.add(text("a")).ok().unwrap();
        disk.add(checkpoint(2)).ok().unwrap();
        let Some(Waiting::Ready(write)) = disk.next() else { panic!("the checkpoint is first") };
        disk.begin(write, Mono(5));
        assert!(matches!(taken.try_recv(), Ok(Write::Checkpoint(held)) if held.note == [2]));
        assert!(disk.next().is_none() && disk.since() == Some(Mono(5)), "one at a time");
        disk.ended();
        assert!(matches!(disk.next(), Some(Waiting::BreakGlassText(..))));
        assert!(disk.next().is_none());
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut disk = Disk::new(mpsc::channel(1).0);
        for _ in 0..WAITING_CAP {
            disk.add(text("a")).ok().unwrap();
        }
        assert!(matches!(disk.add(text("b")), Err(Waiting::BreakGlassText(text, _)) if text == "b"));
    }
}
