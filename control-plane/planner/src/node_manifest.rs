//! One node's manifest: the base of its visibility group without the node's own record, with its assignment.
//!
//! Owns which slots a node holds, and its root without building a map of them. Refuses to own what the base
//! holds.
//!
//! Why this is sound: a base holds the slot of every peer that the group may see, and never an assignment. So
//! a node's manifest differs from its base in exactly two slots, and its root in at most two of 256 bucket
//! hashes.

use std::sync::Arc;

use rap_contract::{ASSIGNMENT_SLOT, Manifest, ManifestPreimage, peer_slot, slot_bucket};
use rap_types::{Digest, NodeId};
use rap_wire::v1;

/// The slots that one node may hold. Nodes of one group share the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeManifest {
    base: Arc<Manifest>,
    node: NodeId,
    assignment: Digest,
    /// The buckets of the two slots, and their hashes. The same twice if both slots are in one bucket.
    own: [(u8, Digest); 2],
    root: Digest,
}

/// The base of a group, ready to derive manifests from.
#[derive(Debug)]
pub(crate) struct GroupBase {
    manifest: Arc<Manifest>,
    preimage: ManifestPreimage,
    assignment_bucket: u8,
}

impl GroupBase {
    pub(crate) fn new(manifest: Arc<Manifest>) -> Self {
        let preimage = manifest.preimage();
        Self { manifest, preimage, assignment_bucket: slot_bucket(ASSIGNMENT_SLOT) }
    }

    /// The manifest of a node of this group. `known` only saves work.
    pub(crate) fn derive(
        &mut self,
        node: NodeId,
        assignment: Digest,
        known: Option<&NodeManifest>,
    ) -> NodeManifest {
        let same = |known: &&NodeManifest| {
            known.assignment == assignment
                && known
                    .own
                    .iter()
                    .all(|(index, _)| self.manifest.bucket_hash(*index) == known.base.bucket_hash(*index))
        };
        let own = known.filter(same).map_or_else(|| self.own_buckets(node, assignment), |known| known.own);
        let root = self.preimage.root_with(own);
        NodeManifest { base: self.manifest.clone(), node, assignment, own, root }
    }

    fn own_buckets(&self, node: NodeId, assignment: Digest) -> [(u8, Digest); 2] {
        let slot = peer_slot(node);
        let bucket = slot_bucket(&slot);
        let (out, put) = ((slot.as_str(), None), (ASSIGNMENT_SLOT, Some(assignment)));
        if bucket == self.assignment_bucket {
            return [(bucket, self.manifest.bucket_hash_with(bucket, &[out, put])); 2];
        }
        let other = self.assignment_bucket;
        [
            (bucket, self.manifest.bucket_hash_with(bucket, &[out])),
            (other, self.manifest.bucket_hash_with(other, &[put])),
        ]
    }
}

impl NodeManifest {
    /// SHA-256 over the tag and the 256 bucket hashes, as [`Manifest::root`].
    pub const fn root(&self) -> Digest {
        self.root
    }

    /// The chunk of a slot.
    pub fn chunk(&self, key: &str) -> Option<Digest> {
        if key == ASSIGNMENT_SLOT {
            return Some(self.assignment);
        }
        self.base.chunk(key).filter(|_| key != peer_slot(self.node))
    }

    /// Every slot sorted by key, as it travels.
    pub fn to_wire(&self) -> Vec<v1::Slot> {
        let own = peer_slot(self.node);
        let mut slots = self.base.to_wire();
        slots.retain(|slot| slot.key != own);
        self.put_assignment(&mut slots);
        slots
    }

    /// What leads from this to `next` of the same node: (set, removed), both sorted.
    pub fn delta(&self, next: &Self) -> (Vec<v1::Slot>, Vec<String>) {
        let (mut set, mut removed) = if Arc::ptr_eq(&self.base, &next.base) {
            Default::default()
        } else {
            self.base.delta(&next.base)
        };
        let own = peer_slot(self.node);
        set.retain(|slot| slot.key != own);
        removed.retain(|key| *key != own);
        if self.assignment != next.assignment {
            next.put_assignment(&mut set);
        }
        (set, removed)
    }

    /// The same slots as a manifest of its own.
    pub fn to_manifest(&self) -> Manifest {
        let own = peer_slot(self.node);
        let kept =
            self.base.iter().filter(|(key, _)| *key != own).map(|(key, chunk)| (key.to_owned(), chunk));
        Manifest::from_slots(kept.chain([(ASSIGNMENT_SLOT.to_owned(), self.assignment)]))
    }

    fn put_assignment(&self, slots: &mut Vec<v1::Slot>) {
        let at = slots.partition_point(|slot| slot.key.as_str() < ASSIGNMENT_SLOT);
        slots.insert(at, v1::Slot { key: ASSIGNMENT_SLOT.to_owned(), chunk_id: self.assignment.to_vec() });
    }
}
