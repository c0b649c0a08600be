//! What a node believes, and why: joining, pins, acceptance of snapshots, degraded mode.
//!
//! Owns the decisions. Refuses to own files, sockets, clocks and generators: time comes in as `Now`,
//! persistence and calls go out as outputs.

#![cfg_attr(
    not(test),
    warn(clippy::wildcard_enum_match_arm, clippy::unwrap_used, clippy::await_holding_lock)
)]

mod acceptor;
mod applicant;
mod break_glass;
pub mod certificate;
mod clock;
mod contact;
mod degraded;
mod pin;
mod pools;
mod rejects;
mod sense;
mod witness;

pub use acceptor::{
    Acceptor, Evidence, Floors, FormerKeys, HeadFloor, Input, Output, PersistId, Pinned, Record, Restriction,
    RevocationFloor, StoredSnapshot,
};
pub use applicant::{
    Applicant, ApplicantInput, ApplicantOutput, Application, Errand, JoinedMembership, NodeFacts, Patience,
    PendingJoin, Phase, Wait,
};
pub use break_glass::{
    Admission, BreakGlass, BreakGlassPins, BreakGlassView, PermittedPeer, StoredBreakGlass,
    StoredBreakGlassGrant,
};
pub use clock::TrustedClock;
pub use contact::{ContactChange, ContactLog, contact_of};
pub use degraded::{DegradedContract, Freshness, FreshnessState, Until};
pub use pin::AuthorityPin;
pub use pools::{Claims, Overlap, Pools};
pub use rejects::Rejects;
pub use sense::{OwnAddresses, Relay, Sense};
pub use witness::{AuditEvidence, HeldCheckpoint, KeptAudit, Witness, Witnessed};

/// Critical features that this version of the node knows.
pub fn known_features(accept_dev: bool) -> &'static [&'static str] {
    if accept_dev { &[rap_contract::FEATURE_DEV] } else { &[] }
}
