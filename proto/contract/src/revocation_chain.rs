//! The verified chain of a cluster's revocations: who is gone, which keys never return, and which key
//! each node that was ever revoked has now.
//!
//! Owns the order of records and the life of a node in it. Refuses to own floors: those need memory
//! (rap-authority for replicas, rap-trust for nodes).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rap_types::{Digest, KeyId, NodeId, Reason, Wall};
use rap_wire::v1;

use crate::revocation::ChainPosition;
use crate::{
    Audience, AuthorityChain, Expectation, KeySet, KeyState, Reject, Revocation, RevocationKind, Signer,
    Verified, verify,
};

/// Where a node is, by the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not a member, and why.
    Gone(RevocationKind),
    /// A member with this key, whose generation is the one after the revoked.
    Member(KeyId),
}

/// What the chain says of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Highest revoked generation.
    generation: u64,
    /// Key of that generation.
    key: KeyId,
    standing: Standing,
    /// Record that said so last.
    sequence: u64,
    issued_at: Wall,
}

/// A cluster's verified revocations, first to last. The empty chain is valid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevocationChain {
    digests: Vec<Digest>,
    entries: BTreeMap<NodeId, Entry>,
    barred: BTreeSet<KeyId>,
    /// ChainPosition in the authority chain of whoever signed last.
    signer: usize,
    newest: Wall,
}

impl RevocationChain {
    /// Walks encoded records from the first on.
    ///
    /// # Errors
    /// As [`Self::extended`].
    pub fn verify<B: AsRef<[u8]>>(
        records: &[B],
        authority: &AuthorityChain,
        features: &[&str],
    ) -> Result<Self, Reject> {
        Self::default().extended(records, authority, features)
    }

    /// This chain with more encoded records at its end.
    ///
    /// # Errors
    /// Those of verification; `chain.broken` for a gap, a wrong link, a signer older than one before it,
    /// or a record that contradicts those before it.
    pub fn extended<B: AsRef<[u8]>>(
        &self,
        records: &[B],
        authority: &AuthorityChain,
        features: &[&str],
    ) -> Result<Self, Reject> {
        let mut chain = self.clone();
        if records.is_empty() {
            return Ok(chain);
        }
        let header = authority.records()[0].header();
        let audience = [Audience::Cluster(header.cluster)];
        let expect = Expectation::within(header.installation, header.cluster, features).for_one_of(&audience);
        let mut keys = KeySet::new();
        for key in authority.keys_ever() {
            keys = keys.with::<v1::Revocation>(key, KeyState::Active);
        }
        for record in records {
            chain.link(&verify(record.as_ref(), &keys, &expect)?, authority)?;
        }
        Ok(chain)
    }

    fn link(&mut self, record: &Verified<v1::Revocation>, authority: &AuthorityChain) -> Result<(), Reject> {
        let broken = |what| Reject::new(Reason::ChainBroken, what);
        let header = record.header();
        if header.sequence != self.sequence() + 1 {
            return Err(broken("sequence is not the next"));
        }
        let previous = self.digests.last().map(|digest| digest.to_vec()).unwrap_or_default();
        if record.previous_digest != previous {
            return Err(broken("previous_digest"));
        }
        // An authority that was replaced says nothing after its successor has spoken.
        let signer = authority
            .place_of(header.issuer, header.incarnation)
            .filter(|position| *position >= self.signer)
            .ok_or(broken("signed by an older authority, or in another incarnation"))?;
        let revocation = Revocation::read(record)?;
        self.admit(&revocation)?;
        self.apply(&revocation, header.sequence, header.issued_at);
        self.signer = signer;
        self.digests.push(record.digest());
        Ok(())
    }

    /// Checks that a revocation makes sense after those before it.
    ///
    /// # Errors
    /// `chain.broken`.
    pub fn admit(&self, revocation: &Revocation) -> Result<(), Reject> {
        let broken = |what| Err(Reject::new(Reason::ChainBroken, what));
        let Revocation { kind, node, key, generation, .. } = revocation;
        let entry = self.entries.get(node);
        let gone = matches!(entry, Some(Entry { standing: Standing::Gone(_), .. }));
        let fits = match entry {
            None => *generation == 1,
            Some(entry) => match entry.standing {
                Standing::Gone(_) => entry.generation == *generation && entry.key == *key,
                Standing::Member(present) => entry.generation + 1 == *generation && present == *key,
            },
        };
        if !fits {
            return broken("key or generation is not the node's");
        }
        if kind.successor().is_some_and(|key| self.barred.contains(&key)) {
            return broken("the successor's key never returns");
        }
        let banned = matches!(entry, Some(Entry { standing: Standing::Gone(RevocationKind::Banned), .. }));
        match kind {
            RevocationKind::Banned if banned => broken("the node is banned already"),
            RevocationKind::Banned => Ok(()),
            RevocationKind::Evicted | RevocationKind::Left | RevocationKind::Absent if gone => {
                broken("the node is gone already")
            }
            RevocationKind::Evicted | RevocationKind::Left | RevocationKind::Absent => Ok(()),
            RevocationKind::KeyRotated(_) if gone => broken("the node is gone"),
            RevocationKind::KeyRotated(next) if next == key => broken("the key is the same"),
            RevocationKind::KeyRotated(_) => Ok(()),
            RevocationKind::Readmitted(_) if banned => broken("the node is banned"),
            RevocationKind::Readmitted(_) if gone => Ok(()),
            RevocationKind::Readmitted(_) => broken("the node is not gone"),
        }
    }

    fn apply(&mut self, revocation: &Revocation, sequence: u64, issued_at: Wall) {
        let Revocation { kind, node, key, generation, .. } = revocation;
        let standing = kind.successor().map_or(Standing::Gone(*kind), Standing::Member);
        if matches!(kind, RevocationKind::Banned | RevocationKind::KeyRotated(_)) {
            self.barred.insert(*key);
        }
        let entry = Entry { generation: *generation, key: *key, standing, sequence, issued_at };
        self.entries.insert(*node, entry);
        self.newest = self.newest.max(issued_at);
    }

    /// Signs the record that follows the last one.
    ///
    /// # Errors
    /// `chain.broken` if it does not make sense there.
    pub fn sign_next(
        &self,
        revocation: &Revocation,
        authority: &AuthorityChain,
        signer: &Signer,
        critical: &[String],
        now: Wall,
    ) -> Result<Vec<u8>, Reject> {
        self.admit(revocation)?;
        let header = authority.records()[0].header();
        let position = ChainPosition {
            installation: header.installation,
            cluster: header.cluster,
            incarnation: authority.incarnation(),
            sequence: self.sequence() + 1,
            previous: self.digest(),
            now,
            critical,
        };
        Ok(revocation.sign(&position, signer))
    }

    /// This chain as it would be with `revocation` at its end. Nothing is signed: the digest of the last
    /// record is of no record.
    ///
    /// # Errors
    /// `chain.broken` if it does not make sense there.
    pub(crate) fn supposing(&self, revocation: &Revocation, now: Wall) -> Result<Self, Reject> {
        self.admit(revocation)?;
        let mut chain = self.clone();
        chain.apply(revocation, self.sequence() + 1, now);
        chain.digests.push(Digest::of(&[b"supposed"]));
        Ok(chain)
    }

    /// Length: sequence of the last record, 0 for none.
    pub fn sequence(&self) -> u64 {
        self.digests.len() as u64
    }

    /// ChainPosition in the authority chain, from 0, of whoever signed the last record.
    pub const fn signer_place(&self) -> usize {
        self.signer
    }

    /// Digest of the last record.
    pub fn digest(&self) -> Option<Digest> {
        self.digests.last().copied()
    }

    /// Digest of the record at `sequence`, from 1.
    pub fn digest_at(&self, sequence: u64) -> Option<Digest> {
        let index = usize::try_from(sequence.checked_sub(1)?).ok()?;
        self.digests.get(index).copied()
    }

    /// What it says of a node; `None` if it never named it.
    pub fn standing(&self, node: NodeId) -> Option<Standing> {
        self.entries.get(&node).map(|entry| entry.standing)
    }

    /// Why a node is gone; `None` if it is not.
    pub fn gone(&self, node: NodeId) -> Option<RevocationKind> {
        match self.standing(node) {
            Some(Standing::Gone(kind)) => Some(kind),
            Some(Standing::Member(_)) | None => None,
        }
    }

    /// True if nobody is ever admitted with this key again.
    pub fn bars(&self, key: &KeyId) -> bool {
        self.barred.contains(key)
    }

    /// True if a member with this id may have this key and generation.
    pub fn admits(&self, node: NodeId, key: &KeyId, generation: u64) -> bool {
        let named = match self.entries.get(&node) {
            None => generation == 1,
            Some(entry) => {
                entry.standing == Standing::Member(*key)
                    && entry.generation.checked_add(1) == Some(generation)
            }
        };
        named && !self.barred.contains(key)
    }

    /// Highest revoked generation of every node that has one.
    pub fn revoked(&self) -> BTreeMap<NodeId, u64> {
        self.entries.iter().map(|(node, entry)| (*node, entry.generation)).collect()
    }

    /// What nodes are told: revoked generations whose leaves, of this lifetime, may still be valid when
    /// the newest record was signed. Members with an older generation go before nodes that are gone (no
    /// peer list has those), newer before older, at most `most`; sorted by node.
    pub fn listed(&self, leaf_lifetime: Duration, most: usize) -> Vec<v1::RevokedNode> {
        let alive = |entry: &Entry| entry.issued_at.plus(leaf_lifetime) > self.newest.minus(SKEW);
        let mut listed: Vec<(&NodeId, &Entry)> =
            self.entries.iter().filter(|(_, entry)| alive(entry)).collect();
        let gone = |entry: &Entry| matches!(entry.standing, Standing::Gone(_));
        listed.sort_by_key(|(_, entry)| (gone(entry), std::cmp::Reverse(entry.sequence)));
        listed.truncate(most);
        listed.sort_by_key(|(node, _)| **node);
        let record = |(node, entry): (&NodeId, &Entry)| v1::RevokedNode {
            node_id: node.to_vec(),
            node_key_sha256: entry.key.to_vec(),
            key_generation: entry.generation,
        };
        listed.into_iter().map(record).collect()
    }
}

/// Clocks of replicas differ; leaves are backdated.
const SKEW: Duration = Duration::from_secs(3600);
