//! What a replica of the control plane has seen signed, and never accepts less of.
//!
//! The database may be put back to an older, authentic state; these floors are kept outside of it.
//! Owns their order. Refuses to judge documents (callers verify first) and to own the file.

use std::collections::BTreeMap;

use rap_contract::Reject;
use rap_types::{ClusterId, Digest, Reason};
use serde::{Deserialize, Serialize};

/// A position that was signed, and the digest of what was signed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// Sequence of a set or chain; size of an audit tree.
    pub sequence: u64,
    /// Digest of the signed document; root of an audit tree.
    pub digest: Digest,
}

/// What a floor is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloorOf {
    /// The installation's role-grant set.
    GrantSet,
    /// The chain of revocations of a cluster.
    Revocations(ClusterId),
    /// The audit tree's checkpoint.
    Checkpoint,
}

/// Every floor of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaFloors {
    /// Of the role-grant set.
    pub grant_set: Option<Floor>,
    /// Of each cluster's revocations.
    pub revocations: BTreeMap<ClusterId, Floor>,
    /// Of the audit tree.
    pub checkpoint: Option<Floor>,
}

impl ReplicaFloors {
    /// The floor of one thing; `None` before its first document.
    pub fn of(&self, of: FloorOf) -> Option<Floor> {
        match of {
            FloorOf::GrantSet => self.grant_set,
            FloorOf::Revocations(cluster) => self.revocations.get(&cluster).copied(),
            FloorOf::Checkpoint => self.checkpoint,
        }
    }

    /// Judges a verified document's position: true if it is above the floor, false if it is the floor.
    ///
    /// # Errors
    /// `floor.rollback`; `floor.equivocation` for another document at the floor's own position.
    pub fn admit(&self, of: FloorOf, offered: Floor) -> Result<bool, Reject> {
        match self.of(of) {
            Some(floor) if offered.sequence < floor.sequence => {
                Err(Reject::new(Reason::FloorRollback, of.name()))
            }
            Some(floor) if offered.sequence == floor.sequence && offered.digest != floor.digest => {
                Err(Reject::new(Reason::FloorEquivocation, of.name()))
            }
            Some(floor) => Ok(offered.sequence > floor.sequence),
            None => Ok(true),
        }
    }

    /// These floors with one of them raised.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub fn raised(&self, of: FloorOf, offered: Floor) -> Result<Self, Reject> {
        self.admit(of, offered)?;
        let mut next = self.clone();
        match of {
            FloorOf::GrantSet => next.grant_set = Some(offered),
            FloorOf::Revocations(cluster) => {
                next.revocations.insert(cluster, offered);
            }
            FloorOf::Checkpoint => next.checkpoint = Some(offered),
        }
        Ok(next)
    }
}

impl FloorOf {
    /// The words in refusals.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GrantSet => "role-grant set",
            Self::Revocations(_) => "revocations",
            Self::Checkpoint => "audit checkpoint",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(sequence: u64, byte: u8) -> Floor {
        Floor { sequence, digest: Digest::from_bytes([byte; 32]) }
    }

    #[test]
    fn a_floor_rises_stays_or_refuses_and_never_falls() {
        let cluster = ClusterId::from_bytes([1; 16]);
        for of in [FloorOf::GrantSet, FloorOf::Revocations(cluster), FloorOf::Checkpoint] {
            let none = ReplicaFloors::default();
            assert_eq!(none.of(of), None);
            let five = none.raised(of, floor(5, 1)).unwrap();
            assert_eq!(five.admit(of, floor(5, 1)), Ok(false));
            assert_eq!(five.admit(of, floor(6, 2)), Ok(true));
            assert_eq!(five.raised(of, floor(4, 1)).unwrap_err().reason, Reason::FloorRollback);
            assert_eq!(five.raised(of, floor(5, 2)).unwrap_err().reason, Reason::FloorEquivocation);
            assert_eq!(five.raised(of, floor(9, 3)).unwrap().of(of), Some(floor(9, 3)));
        }
    }

    #[test]
    fn floors_are_independent() {
        let [one, two] = [[1; 16], [2; 16]].map(ClusterId::from_bytes);
        let floors = ReplicaFloors::default().raised(FloorOf::Revocations(one), floor(7, 1)).unwrap();
        assert_eq!(floors.admit(FloorOf::Revocations(two), floor(1, 1)), Ok(true));
        assert_eq!(floors.of(FloorOf::GrantSet), None);
    }
}
