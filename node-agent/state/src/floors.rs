//! What this node has accepted and must never fall below, fsynced before anyone acts on it.
//!
//! Owns the order of floors. Refuses to judge whether an object may raise them: callers verify first.
//! The refresh of a head is not kept; only its (incarnation, version) is.

use std::collections::BTreeMap;

use rap_types::{Digest, HeadOrder, Incarnation, Version, VpnConnectionId, Wall};
use serde::{Deserialize, Serialize};

use crate::durable::{Durable, Record, Recovery};
use crate::error::StateError;
use crate::layout::MembershipDir;

/// The floors of one membership. A new membership starts with all of them at zero.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floors {
    /// Incarnation of the highest accepted head.
    pub incarnation: Incarnation,
    /// Version of the highest accepted head within it.
    pub version: Version,
    /// Digest that every accepted head of this (incarnation, version) shares: its Merkle root.
    pub head_digest: Option<Digest>,
    /// Highest issued-at ever accepted.
    pub time_floor: Wall,
    /// Sequence of the newest accepted authority record.
    pub authority_sequence: u64,
    /// Digest of that record.
    pub authority_digest: Option<Digest>,
    /// Highest (incarnation, epoch) verified for each lease.
    pub leases: BTreeMap<VpnConnectionId, LeaseFloor>,
    /// Set while the node holds proof of two histories: the (incarnation, version) they share.
    pub frozen: Option<HeadOrder>,
    /// Boot id under which the floors were last written.
    pub boot_id: Option<String>,
    /// Revocations that the highest accepted head told of.
    #[serde(default)]
    pub revocations: Option<RevocationFloor>,
}

/// Length of the chain of revocations in an incarnation, and digest of its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationFloor {
    /// Life of the cluster's database.
    pub incarnation: Incarnation,
    /// Length of the chain.
    pub sequence: u64,
    /// Digest of its last record; `None` for length 0.
    pub digest: Option<Digest>,
}

/// Highest verified fencing token of one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseFloor {
    /// Life of the cluster's database.
    pub incarnation: Incarnation,
    /// Epoch within it.
    pub epoch: u64,
}

/// What to raise; absent parts stay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Raise {
    /// A head: its (incarnation, version) and Merkle root.
    pub head: Option<(Incarnation, Version, Digest)>,
    /// Issued-at of an accepted object. An earlier one than the floor changes nothing.
    pub time: Option<Wall>,
    /// An authority record: its sequence and digest, and the incarnation to which it resets the head
    /// floor. Only this may take the head floor down.
    pub authority: Option<(u64, Digest, Incarnation)>,
    /// Fencing token of a lease.
    pub lease: Option<(VpnConnectionId, LeaseFloor)>,
    /// Freezes at this head. Ends by a head of a higher incarnation or an authority record.
    pub freeze: Option<HeadOrder>,
    /// The present boot id.
    pub boot_id: Option<String>,
    /// Revocations that an accepted head told of.
    pub revocations: Option<RevocationFloor>,
}

impl Record for Floors {
    const SCHEMA: &'static str = "rap.floors.v1";
}

impl Floors {
    /// These floors after `raise`, or why it is refused. Nothing in the result is lower, but for the
    /// head floor under a newer authority record.
    pub fn raised(&self, raise: &Raise) -> Result<Self, StateError> {
        let mut next = self.clone();
        if let Some((sequence, digest, incarnation)) = raise.authority {
            next.raise_authority(sequence, digest, incarnation)?;
        }
        if let Some(head) = raise.head {
            next.raise_head(head)?;
        }
        if let Some((connection, token)) = raise.lease {
            next.raise_lease(connection, token)?;
        }
        if let Some(time) = raise.time {
            next.time_floor = next.time_floor.max(time);
        }
        if let Some(told) = raise.revocations {
            next.raise_revocations(told)?;
        }
        next.frozen = raise.freeze.or(next.frozen);
        next.boot_id = raise.boot_id.clone().or(next.boot_id);
        Ok(next)
    }

    /// These floors and `others`, each part at the higher of both: nothing in the result is below either.
    /// Head and freeze are those under the newer authority record.
    pub fn merged(&self, others: &Self) -> Result<Self, StateError> {
        let mut next = self.clone();
        let sequence = |floors: &Self| floors.authority_digest.map(|_| floors.authority_sequence);
        if sequence(others) >= sequence(self) {
            let authority = others.authority_digest;
            let authority = authority.map(|digest| (others.authority_sequence, digest, others.incarnation));
            next.raise_part(&Raise { authority, ..Raise::default() })?;
            let head = others.head_digest.map(|root| (others.incarnation, others.version, root));
            next.raise_part(&Raise { head, ..Raise::default() })?;
            let thawed = |frozen: &HeadOrder| frozen.incarnation < next.incarnation;
            next.frozen = others.frozen.filter(|frozen| !thawed(frozen)).or(next.frozen);
        }
        let life = |told: &RevocationFloor| told.incarnation;
        if others.revocations.as_ref().map(life) >= self.revocations.as_ref().map(life) {
            next.raise_part(&Raise { revocations: others.revocations, ..Raise::default() })?;
        }
        for (connection, token) in &others.leases {
            next.raise_part(&Raise { lease: Some((*connection, *token)), ..Raise::default() })?;
        }
        next.time_floor = next.time_floor.max(others.time_floor);
        next.boot_id = others.boot_id.clone().or(next.boot_id);
        Ok(next)
    }

    /// Raises one part, unless it is the higher one already.
    fn raise_part(&mut self, part: &Raise) -> Result<(), StateError> {
        match self.raised(part) {
            Ok(next) => *self = next,
            Err(StateError::Lowered { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn raise_authority(
        &mut self,
        sequence: u64,
        digest: Digest,
        reset: Incarnation,
    ) -> Result<(), StateError> {
        let known = self.authority_digest;
        let differs = known.is_some_and(|known| known != digest);
        rises("authority record", &self.authority_sequence, &sequence, differs)?;
        if known.is_some() && sequence == self.authority_sequence {
            return Ok(());
        }
        (self.authority_sequence, self.authority_digest) = (sequence, Some(digest));
        (self.incarnation, self.version, self.head_digest) = (reset, Version(0), None);
        self.frozen = None;
        Ok(())
    }

    fn raise_head(&mut self, head: (Incarnation, Version, Digest)) -> Result<(), StateError> {
        let (incarnation, version, root) = head;
        let (floor, offered) = (Pair(self.incarnation, self.version.0), Pair(incarnation, version.0));
        rises("head", &floor, &offered, self.head_digest.is_some_and(|known| known != root))?;
        if self.frozen.is_some_and(|frozen| incarnation > frozen.incarnation) {
            self.frozen = None;
        }
        (self.incarnation, self.version, self.head_digest) = (incarnation, version, Some(root));
        Ok(())
    }

    fn raise_revocations(&mut self, told: RevocationFloor) -> Result<(), StateError> {
        if let Some(floor) = self.revocations.filter(|floor| told.incarnation <= floor.incarnation) {
            rises("revocations", &floor.sequence, &told.sequence, told.digest != floor.digest)?;
        }
        self.revocations = Some(told);
        Ok(())
    }

    fn raise_lease(&mut self, connection: VpnConnectionId, token: LeaseFloor) -> Result<(), StateError> {
        let pair = |token: &LeaseFloor| Pair(token.incarnation, token.epoch);
        match self.leases.get(&connection) {
            Some(floor) => rises("lease", &pair(floor), &pair(&token), false)?,
            None if self.leases.len() >= MAX_LEASES => {
                let needed = self.leases.len() as u64 + 1;
                return Err(StateError::Full { what: "lease floors", needed, limit: MAX_LEASES as u64 });
            }
            None => {}
        }
        self.leases.insert(connection, token);
        Ok(())
    }
}

/// A position within an incarnation.
#[derive(PartialEq, PartialOrd)]
struct Pair(Incarnation, u64);

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Refuses a position below the floor, and with `differs` the floor itself: its contents are others.
fn rises<P: PartialOrd + std::fmt::Display>(
    what: &'static str,
    floor: &P,
    offered: &P,
    differs: bool,
) -> Result<(), StateError> {
    if offered < floor {
        return Err(StateError::Lowered { what, floor: floor.to_string(), offered: offered.to_string() });
    }
    if offered == floor && differs {
        return Err(StateError::Equivocation { what, at: offered.to_string() });
    }
    Ok(())
}

/// The floors on disk.
#[derive(Debug)]
pub struct FloorStore {
    record: Durable<Floors>,
    current: Floors,
}

impl FloorStore {
    /// Reads the floors of a membership. Damage to both copies is an error: without floors an old
    /// snapshot could not be told from a new one.
    pub fn open(dir: &MembershipDir) -> Result<(Self, Recovery), StateError> {
        let (record, recovery) = Durable::<Floors>::open(&dir.join("floors.json"))?;
        let current = record.value().cloned().unwrap_or_default();
        Ok((Self { record, current }, recovery))
    }

    /// True if the disk has no floors: neither copy is there.
    pub fn is_absent(&self) -> bool {
        self.record.value().is_none()
    }

    /// The floors that hold now.
    pub fn current(&self) -> &Floors {
        &self.current
    }

    /// Raises the floors. They are on disk when this returns `Ok`; the caller acts only then. Blocks
    /// for the fsync; a raise that changes nothing writes nothing.
    pub fn raise(&mut self, raise: &Raise) -> Result<&Floors, StateError> {
        let next = self.current.raised(raise)?;
        self.keep(next)
    }

    /// Raises the floors to those of another place of the same membership, part by part. As [`Self::raise`].
    pub fn merge(&mut self, others: &Floors) -> Result<&Floors, StateError> {
        let next = self.current.merged(others)?;
        self.keep(next)
    }

    fn keep(&mut self, next: Floors) -> Result<&Floors, StateError> {
        if next != self.current || self.record.value().is_none() {
            self.record.store(next.clone())?;
            self.current = next;
        }
        Ok(&self.current)
    }
}

/// Most leases whose floors are kept: bounds the file.
const MAX_LEASES: usize = 2048;

#[cfg(test)]
mod tests;
