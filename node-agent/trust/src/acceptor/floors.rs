//! What was accepted and must never be undercut.
//!
//! Owns the comparison of a head with the floors. Refuses to own how floors are stored.

use rap_contract::{HeadFacts, Reject, VerifiedSnapshot};
use rap_types::{Digest, HeadOrder, Incarnation, Reason, Version, Wall};
use rap_wire::v1;

/// (incarnation, version) of the highest accepted head and the root that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadFloor {
    /// Life of the cluster's database.
    pub incarnation: Incarnation,
    /// Version within it.
    pub version: Version,
    /// Merkle root that every head of this version shares; `None` if it was not kept.
    pub root: Option<Digest>,
}

/// Length of the chain of revocations that the highest accepted head told, and its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationFloor {
    /// Life of the cluster's database in which it was told.
    pub incarnation: Incarnation,
    /// Length of the chain.
    pub sequence: u64,
    /// Digest of its last record; `None` for length 0.
    pub digest: Option<Digest>,
}

/// Floors of one membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floors {
    /// Highest accepted head.
    pub head: HeadFloor,
    /// Highest issued-at accepted.
    pub time: Wall,
    /// Position at which two histories were seen, while that is not resolved.
    pub frozen: Option<HeadOrder>,
    /// Revocations that were told, if any snapshot was accepted.
    pub revocations: Option<RevocationFloor>,
}

impl RevocationFloor {
    /// What a snapshot tells.
    fn of(snapshot: &VerifiedSnapshot) -> Self {
        Self::told_by(snapshot.head(), &snapshot.contents().trust)
    }

    /// What a trust set under this head tells.
    fn told_by(head: &HeadFacts, trust: &v1::TrustChunk) -> Self {
        Self {
            incarnation: head.order.incarnation,
            sequence: trust.revocation_sequence,
            digest: Digest::from_slice(&trust.revocation_digest).ok(),
        }
    }
}

/// True if `trust` under this head tells of other or more revocations than `active`.
pub(super) fn revokes_more(head: &HeadFacts, trust: &v1::TrustChunk, active: &VerifiedSnapshot) -> bool {
    let (told, known) = (RevocationFloor::told_by(head, trust), RevocationFloor::of(active));
    told.sequence > known.sequence || told.digest != known.digest
}

impl Floors {
    /// The floors of a membership that has accepted nothing.
    pub const fn initial(incarnation: Incarnation) -> Self {
        Self {
            head: HeadFloor { incarnation, version: Version(0), root: None },
            time: Wall(0),
            frozen: None,
            revocations: None,
        }
    }

    /// The floors after an authority record that starts `incarnation`: heads begin anew, a freeze ends.
    pub(super) fn reset_to(&self, incarnation: Incarnation) -> Self {
        Self { time: self.time, ..Self::initial(incarnation) }
    }

    /// True if no head was accepted since the record that starts `incarnation`.
    pub(super) fn is_reset_to(&self, incarnation: Incarnation) -> bool {
        self.head == HeadFloor { incarnation, version: Version(0), root: None }
    }

    /// Refuses everything of a frozen incarnation or before.
    pub(super) fn check_frozen(&self, facts: &HeadFacts) -> Result<(), Reject> {
        match self.frozen {
            Some(frozen) if facts.order.incarnation <= frozen.incarnation => {
                Err(Reject::new(Reason::SnapshotFrozen, "two histories were signed"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a head below the floor, and one at the floor with another root.
    pub(super) fn check_head(&self, facts: &HeadFacts) -> Result<(), Reject> {
        let floor = (self.head.incarnation, self.head.version);
        if facts.order.durable() < floor {
            return Err(Reject::new(Reason::SnapshotRollback, "below the floor"));
        }
        if facts.order.durable() == floor && self.head.root.is_some_and(|root| root != facts.root) {
            return Err(Reject::new(Reason::SnapshotEquivocation, "equal version with another root"));
        }
        Ok(())
    }

    /// As [`Self::check_head`] for what is on this node's own disk: a frozen node keeps its last good
    /// snapshot, and nothing of a later version that the freeze refused.
    pub(super) fn admits_stored(&self, facts: &HeadFacts) -> Result<(), Reject> {
        self.check_head(facts)?;
        let above = facts.order.durable() > (self.head.incarnation, self.head.version);
        if above { self.check_frozen(facts) } else { Ok(()) }
    }

    /// Refuses a trust set that tells of fewer revocations than one before it in this incarnation, or of
    /// others.
    pub(super) fn check_revocations(&self, head: &HeadFacts, trust: &v1::TrustChunk) -> Result<(), Reject> {
        let told = RevocationFloor::told_by(head, trust);
        let Some(floor) = self.revocations.filter(|floor| told.incarnation <= floor.incarnation) else {
            return Ok(());
        };
        if told.sequence < floor.sequence {
            return Err(Reject::new(Reason::SnapshotRollback, "revocations were taken back"));
        }
        if told.sequence == floor.sequence && told.digest != floor.digest {
            return Err(Reject::new(Reason::SnapshotEquivocation, "other revocations of the same number"));
        }
        Ok(())
    }

    /// The floors with this snapshot accepted. A higher incarnation thaws.
    pub(super) fn raised_to(&self, snapshot: &VerifiedSnapshot) -> Self {
        let facts = snapshot.head();
        let thawed = self.frozen.is_none_or(|frozen| facts.order.incarnation > frozen.incarnation);
        Self {
            head: HeadFloor {
                incarnation: facts.order.incarnation,
                version: facts.order.version,
                root: Some(facts.root),
            },
            time: self.time.max(facts.issued_at),
            frozen: if thawed { None } else { self.frozen },
            revocations: Some(RevocationFloor::of(snapshot)),
        }
    }
}
