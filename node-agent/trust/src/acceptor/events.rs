//! What happens to the acceptor, and what is then to be done.

use std::sync::Arc;

use rap_contract::{AuthorityChain, VerifiedSnapshot};
use rap_types::{HeadOrder, Reason};
use rap_wire::v1;

use super::Floors;

/// Names one `Persist` so that its answer can be matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PersistId(pub u64);

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The control plane sent new slots and chunks.
    Updated(v1::SnapshotUpdate),
    /// The control plane sent a newer head over an unchanged leaf.
    HeadArrived(v1::HeadUpdate),
    /// The control plane sent authority records.
    RecordsArrived(v1::AuthorityRecords),
    /// The record is on disk.
    Persisted(PersistId),
    /// The record is not on disk.
    PersistFailed(PersistId, Reason),
}

/// What is to be done, in order.
#[derive(Debug, Clone)]
pub enum Output {
    /// This trust set is verified and revokes nodes that the snapshot in use does not. Take their permissions
    /// away now. Nothing else of its snapshot counts before that is activated. It comes before the `Persist` of
    /// the snapshot, and also when there is none: because the disk is behind, or because something else in the
    /// snapshot refuses it.
    Restrict(Restriction),
    /// Write this and answer with `Persisted` or `PersistFailed`.
    Persist(PersistId, Box<Record>),
    /// Use this snapshot from now on.
    Activate(Arc<VerifiedSnapshot>),
    /// Tell the control plane that it is active.
    Acknowledge(v1::SnapshotAck),
    /// Tell the control plane that its message was refused.
    Refuse(v1::SnapshotNack),
    /// Tell the control plane which authority record is on disk, or why later ones are not.
    Confirm(v1::AuthorityConfirm),
    /// Two histories are signed: tell people.
    Alarm(Evidence),
}

/// What a verified snapshot that is not in use revokes.
#[derive(Debug, Clone)]
pub struct Restriction {
    /// Order of its head.
    pub order: HeadOrder,
    /// Revocations that the snapshot carries.
    pub trust: Arc<v1::TrustChunk>,
}

/// What must reach the disk: chunks and snapshot first, floors (fsync) last.
#[derive(Debug, Clone)]
pub struct Record {
    /// Floors that must hold on disk before activation.
    pub floors: Floors,
    /// Snapshot to store, if one is to become active.
    pub snapshot: Option<Arc<VerifiedSnapshot>>,
    /// False if only head and proof differ from the snapshot stored before.
    pub contents_changed: bool,
    /// Two heads that contradict each other, to keep.
    pub evidence: Option<Evidence>,
    /// The chain to pin from now on. It is written before the floors, which it resets.
    pub chain: Option<Arc<AuthorityChain>>,
}

/// Two verified heads for one position with different contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The position they share.
    pub order: HeadOrder,
    /// Encoded envelope of the head accepted before; empty if only its floor is left.
    pub accepted: Vec<u8>,
    /// Encoded envelope of the head that contradicts it.
    pub contradicting: Vec<u8>,
}
