//! Floors: the newest signed state that a replica of the control plane has accepted. It never accepts an older one.
//!
//! Somebody may set the database back to an older, authentic state, so floors are kept outside of it. Owns the order of
//! floors. Refuses to verify documents (callers do that first) and to own the file.

use std::collections::BTreeMap;

use rap_contract::Reject;
use rap_types::{ClusterId, Digest, Reason, TokenId};
use serde::{Deserialize, Serialize};

/// A position that was signed, and the digest of what was signed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// Sequence of a set or chain; version of a data key; size of an audit tree; of a revoked token when it ends, in Unix
    /// milliseconds.
    pub sequence: u64,
    /// Digest of the signed document; root of an audit tree; of a data key a value derived
    /// from it, zero where an earlier release wrote the floor.
    pub digest: Digest,
}

/// What a floor is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloorOf {
    /// The installation's role-grant set.
    GrantSet,
    /// The chain of revocations of a cluster.
    Revocations(ClusterId),
    /// The chain of authority records of a cluster.
    Authority(ClusterId),
    /// The oldest live data key of a cluster, by version. A retired one never returns.
    DataKey(ClusterId),
    /// The audit tree's checkpoint.
    Checkpoint,
    /// A token that was revoked. It stays revoked.
    RevokedToken(TokenId),
}

/// Every floor of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaFloors {
    /// Of the role-grant set.
    pub grant_set: Option<Floor>,
    /// Of each cluster's revocations.
    pub revocations: BTreeMap<ClusterId, Floor>,
    /// Of each cluster's authority records.
    #[serde(default)]
    pub authorities: BTreeMap<ClusterId, Floor>,
    /// Of each cluster's data keys.
    #[serde(default)]
    pub data_keys: BTreeMap<ClusterId, Floor>,
    /// Of the audit tree.
    pub checkpoint: Option<Floor>,
    /// Tokens that were revoked; of more than [`TOKENS_MOST`] those that end last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub revoked_tokens: BTreeMap<TokenId, Floor>,
}

impl ReplicaFloors {
    /// The floor of one thing; `None` before its first document.
    pub fn of(&self, of: FloorOf) -> Option<Floor> {
        match of {
            FloorOf::GrantSet => self.grant_set,
            FloorOf::Revocations(cluster) => self.revocations.get(&cluster).copied(),
            FloorOf::Authority(cluster) => self.authorities.get(&cluster).copied(),
            FloorOf::DataKey(cluster) => self.data_keys.get(&cluster).copied(),
            FloorOf::Checkpoint => self.checkpoint,
            FloorOf::RevokedToken(token) => self.revoked_tokens.get(&token).copied(),
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
            // Which key it was is learned now.
            Some(floor)
                if matches!(of, FloorOf::DataKey(_))
                    && offered.sequence == floor.sequence
                    && floor.digest == UNKNOWN =>
            {
                Ok(offered.digest != UNKNOWN)
            }
            Some(floor) if offered.sequence == floor.sequence && offered.digest != floor.digest => {
                Err(Reject::new(Reason::FloorEquivocation, of.name()))
            }
            Some(floor) => Ok(offered.sequence > floor.sequence),
            None => Ok(true),
        }
    }

    /// The floors of a replica that makes an installation: no set was ever signed.
    pub fn fresh() -> Self {
        Self {
            grant_set: Some(Floor { sequence: 0, digest: Digest::from_bytes([0; 32]) }),
            ..Self::default()
        }
    }

    /// For each thing the higher of two floors.
    #[must_use]
    pub fn merged(mut self, other: &Self) -> Self {
        let higher = |one: &mut Option<Floor>, two: Option<Floor>| {
            let height = |floor: Floor| (floor.sequence, floor.digest != UNKNOWN);
            if one.map(height) < two.map(height) {
                *one = two;
            }
        };
        higher(&mut self.grant_set, other.grant_set);
        higher(&mut self.checkpoint, other.checkpoint);
        for (own, other) in [
            (&mut self.revocations, &other.revocations),
            (&mut self.authorities, &other.authorities),
            (&mut self.data_keys, &other.data_keys),
        ] {
            for (cluster, floor) in other {
                let mut highest = own.get(cluster).copied();
                higher(&mut highest, Some(*floor));
                own.extend(highest.map(|floor| (*cluster, floor)));
            }
        }
        for (token, floor) in &other.revoked_tokens {
            self.revoked_tokens.entry(*token).or_insert(*floor);
        }
        self.keep_tokens();
        self
    }

    /// These floors with one of them put where a person says, lower if need be. An empty chain of
    /// revocations has no floor.
    #[must_use]
    pub fn confirmed(mut self, of: FloorOf, at: Floor) -> Self {
        match of {
            FloorOf::GrantSet => self.grant_set = Some(at),
            FloorOf::Revocations(cluster) if at.sequence == 0 => drop(self.revocations.remove(&cluster)),
            FloorOf::Revocations(cluster) => drop(self.revocations.insert(cluster, at)),
            FloorOf::Authority(cluster) => drop(self.authorities.insert(cluster, at)),
            FloorOf::DataKey(cluster) => drop(self.data_keys.insert(cluster, at)),
            FloorOf::Checkpoint => self.checkpoint = Some(at),
            FloorOf::RevokedToken(token) => drop(self.revoked_tokens.insert(token, at)),
        }
        self.keep_tokens();
        self
    }

    /// A token that ended admits nobody, so the one that ends first goes first.
    fn keep_tokens(&mut self) {
        while self.revoked_tokens.len() > TOKENS_MOST {
            let first = self.revoked_tokens.iter().min_by_key(|(_, floor)| floor.sequence);
            let Some(first) = first.map(|(token, _)| *token) else { return };
            self.revoked_tokens.remove(&first);
        }
    }

    /// These floors with one of them raised.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub fn raised(&self, of: FloorOf, offered: Floor) -> Result<Self, Reject> {
        self.admit(of, offered)?;
        Ok(self.clone().confirmed(of, offered))
    }
}

/// Most revoked tokens that have a floor.
pub const TOKENS_MOST: usize = 2_048;

const UNKNOWN: Digest = Digest::from_bytes([0; 32]);

impl FloorOf {
    /// The words in refusals.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GrantSet => "role-grant set",
            Self::Revocations(_) => "revocations",
            Self::Authority(_) => "authority records",
            Self::DataKey(_) => "data key",
            Self::Checkpoint => "audit checkpoint",
            Self::RevokedToken(_) => "revoked token",
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
        for of in [
            FloorOf::GrantSet,
            FloorOf::Revocations(cluster),
            FloorOf::Authority(cluster),
            FloorOf::Checkpoint,
        ] {
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
    fn of_two_files_the_higher_floor_of_each_thing_holds() {
        let [one, two] = [[1; 16], [2; 16]].map(ClusterId::from_bytes);
        let left = ReplicaFloors::fresh().confirmed(FloorOf::Revocations(one), floor(7, 1));
        let right = ReplicaFloors::default()
            .confirmed(FloorOf::GrantSet, floor(4, 1))
            .confirmed(FloorOf::Revocations(one), floor(3, 1))
            .confirmed(FloorOf::Revocations(two), floor(1, 1))
            .confirmed(FloorOf::Authority(two), floor(2, 1))
            .confirmed(FloorOf::Checkpoint, floor(9, 1));
        let merged = left.clone().merged(&right);
        assert_eq!(merged, right.merged(&left));
        assert_eq!(merged.of(FloorOf::GrantSet), Some(floor(4, 1)));
        assert_eq!(merged.of(FloorOf::Revocations(one)), Some(floor(7, 1)));
        assert_eq!(merged.of(FloorOf::Revocations(two)), Some(floor(1, 1)));
        assert_eq!(merged.of(FloorOf::Authority(two)), Some(floor(2, 1)));
        assert_eq!(merged.of(FloorOf::Checkpoint), Some(floor(9, 1)));
    }

    #[test]
    fn a_data_keys_floor_without_a_digest_takes_one_and_then_keeps_it() {
        let of = FloorOf::DataKey(ClusterId::from_bytes([1; 16]));
        let old = ReplicaFloors::default().raised(of, floor(2, 0)).unwrap();
        assert_eq!(old.admit(of, floor(2, 0)), Ok(false));
        let known = old.raised(of, floor(2, 7)).unwrap();
        assert_eq!(known.of(of), Some(floor(2, 7)));
        assert_eq!(known.admit(of, floor(2, 8)).unwrap_err().reason, Reason::FloorEquivocation);
        assert_eq!(known.admit(of, floor(2, 0)).unwrap_err().reason, Reason::FloorEquivocation);
        assert_eq!(old.clone().merged(&known), known);
        assert_eq!(known.clone().merged(&old), known);
        // Others never lack one.
        let chain = FloorOf::Authority(ClusterId::from_bytes([1; 16]));
        let zero = ReplicaFloors::default().raised(chain, floor(2, 0)).unwrap();
        assert_eq!(zero.admit(chain, floor(2, 7)).unwrap_err().reason, Reason::FloorEquivocation);
    }

    #[test]
    fn of_revoked_tokens_those_that_end_last_are_kept() {
        let token = |number: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(number as u64).to_be_bytes());
            FloorOf::RevokedToken(TokenId::from_bytes(id))
        };
        let mut floors = ReplicaFloors::default();
        for number in 0..TOKENS_MOST + 10 {
            floors = floors.confirmed(token(number), floor(1_000 + number as u64, 1));
        }
        assert_eq!(floors.revoked_tokens.len(), TOKENS_MOST);
        assert_eq!((floors.of(token(9)), floors.of(token(10))), (None, Some(floor(1_010, 1))));
        let other = ReplicaFloors::default().raised(token(9_999), floor(9, 1)).unwrap();
        assert_eq!(other.clone().merged(&floors), floors);
        let text = serde_json::to_string(&ReplicaFloors::default()).unwrap();
        assert!(!text.contains("revoked_tokens"), "a release that knows none reads it: {text}");
    }

    #[test]
    fn floors_are_independent() {
        let [one, two] = [[1; 16], [2; 16]].map(ClusterId::from_bytes);
        let floors = ReplicaFloors::default().raised(FloorOf::Revocations(one), floor(7, 1)).unwrap();
        assert_eq!(floors.admit(FloorOf::Revocations(two), floor(1, 1)), Ok(true));
        assert_eq!(floors.of(FloorOf::GrantSet), None);
    }
}
