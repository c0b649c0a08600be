//! From messages and stored bytes to the parts of a snapshot.
//!
//! Owns size limits and the merge of a delta with what the node has. Refuses to own verification.

use std::sync::Arc;

use rap_contract::{
    CHUNK_CAP, Expectation, HeadFacts, KeySet, Manifest, PublicKey, Reject, SLOTS_CAP, SnapshotParts,
    Verified, VerifiedSnapshot, leaf_hash,
};
use rap_types::{ClusterId, Digest, InstallationId, NodeId, Reason};
use rap_wire::v1;

use crate::known_features;

/// Cap on the chunks of one update, bytes.
const UPDATE_CAP: usize = 64 * 1024 * 1024;

/// A snapshot as it lies on disk. Nothing in it is believed before it verifies again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoredSnapshot {
    /// Encoded envelope of the head.
    pub head: Vec<u8>,
    /// Leaf fields.
    pub leaf: v1::Leaf,
    /// Path to the root.
    pub proof: v1::InclusionProof,
    /// Sorted slots.
    pub slots: Vec<v1::Slot>,
    /// Encoded chunks.
    pub chunks: Vec<Vec<u8>>,
}

impl StoredSnapshot {
    /// How a verified snapshot is stored.
    pub fn of(snapshot: &VerifiedSnapshot) -> Self {
        let parts = snapshot.parts();
        Self {
            head: snapshot.head_document().envelope().to_vec(),
            leaf: parts.leaf.clone(),
            proof: parts.proof.clone(),
            slots: parts.manifest.to_wire(),
            chunks: parts.chunks.values().map(|chunk| chunk.to_vec()).collect(),
        }
    }

    /// Takes a snapshot out of an export.
    ///
    /// # Errors
    /// `snapshot.malformed`.
    pub fn of_export(export: v1::SnapshotExport) -> Result<Self, Reject> {
        let malformed = |what| Reject::new(Reason::SnapshotMalformed, what);
        Ok(Self {
            head: export.head,
            leaf: export.leaf.ok_or(malformed("leaf"))?,
            proof: export.proof.ok_or(malformed("proof"))?,
            slots: export.slots,
            chunks: export.chunks,
        })
    }

    /// Verifies it from the head down, for this cluster and node, without floors and times.
    ///
    /// # Errors
    /// The reason why the message does not verify.
    pub fn verify(
        &self,
        authority: PublicKey,
        installation: InstallationId,
        cluster: ClusterId,
        node: NodeId,
        accept_dev: bool,
    ) -> Result<VerifiedSnapshot, Reject> {
        let expect = Expectation::within(installation, cluster, known_features(accept_dev));
        let head = HeadFacts::open(&self.head, &KeySet::of::<v1::ClusterHead>(authority), &expect)?;
        VerifiedSnapshot::verify(self.to_parts(head)?, Some(node))
    }

    pub(super) fn to_parts(
        &self,
        head: (Verified<v1::ClusterHead>, HeadFacts),
    ) -> Result<SnapshotParts, Reject> {
        Ok(SnapshotParts {
            head,
            leaf: self.leaf.clone(),
            proof: self.proof.clone(),
            manifest: Manifest::from_wire(&self.slots)?,
            chunks: self.chunks.iter().map(|chunk| Arc::from(chunk.as_slice())).collect(),
        })
    }
}

/// Refuses an update that is too large before anything in it is hashed.
pub(super) fn check_size(update: &v1::SnapshotUpdate) -> Result<(), Reject> {
    let bytes: usize = update.chunks.iter().map(Vec::len).sum();
    let too_large = |what| Err(Reject::new(Reason::SnapshotTooLarge, what));
    if bytes > UPDATE_CAP || update.chunks.len() > SLOTS_CAP {
        return too_large("chunks");
    }
    if update.chunks.iter().any(|chunk| chunk.len() > CHUNK_CAP) {
        return too_large("chunk");
    }
    if update.slots_set.len() > SLOTS_CAP || update.slots_removed.len() > SLOTS_CAP {
        return too_large("slots");
    }
    Ok(())
}

/// The parts that an update leads to from `base`. Chunks are those that it brings.
pub(super) fn merge(
    base: Option<&VerifiedSnapshot>,
    update: v1::SnapshotUpdate,
    head: (Verified<v1::ClusterHead>, HeadFacts),
) -> Result<SnapshotParts, Reject> {
    let malformed = |what| Reject::new(Reason::SnapshotMalformed, what);
    let manifest = match (update.full, base) {
        (true, _) if !update.slots_removed.is_empty() => {
            return Err(malformed("a full update removes nothing"));
        }
        (true, _) => Manifest::from_wire(&update.slots_set)?,
        (false, Some(base)) => base.manifest().apply(&update.slots_set, &update.slots_removed)?,
        (false, None) => return Err(Reject::new(Reason::SnapshotChunkMissing, "no snapshot to apply it to")),
    };
    Ok(SnapshotParts {
        head,
        leaf: update.leaf.ok_or(malformed("leaf"))?,
        proof: update.proof.ok_or(malformed("proof"))?,
        manifest,
        chunks: update.chunks.into_iter().map(Arc::from).collect(),
    })
}

/// Hash of the leaf that was offered, if its fields have their lengths.
pub(super) fn leaf_of((leaf, manifest): &(v1::Leaf, Manifest), cluster: ClusterId) -> Option<Digest> {
    let node = NodeId::from_slice(&leaf.node_id).ok()?;
    let salt = leaf.salt.as_slice().try_into().ok()?;
    Some(leaf_hash(cluster, node, leaf.node_generation, &manifest.root(), salt))
}
