//! Stateless verification of a snapshot: head, proof, leaf, manifest, chunks, contents.
//!
//! A snapshot that holds can carry over to the next one: slots that both have in common were verified
//! with it and are shared, so that a delta costs what it changes.
//!
//! Floors, freshness and equivocation need memory and live in rap-trust.

use std::sync::Arc;

use rap_types::{ClusterId, Digest, NodeId, Reason};
use rap_wire::v1;

use crate::contents::{Draft, Held};
use crate::{
    ChunksById, HeadFacts, Manifest, ParsedChunk, Reject, SharedMap, SnapshotContents, TRUST_SLOT, Verified,
    leaf_hash, parse_chunk, root_from_proof,
};

/// The parts of a snapshot as they travel or lie on disk.
#[derive(Debug, Clone)]
pub struct SnapshotParts {
    /// Verified head and its facts.
    pub head: (Verified<v1::ClusterHead>, HeadFacts),
    /// Leaf fields.
    pub leaf: v1::Leaf,
    /// Path to the root.
    pub proof: v1::InclusionProof,
    /// Slots.
    pub manifest: Manifest,
    /// Encoded chunks; more than the manifest names is allowed.
    pub chunks: ChunksById,
}

/// The parts of a snapshot that holds: chunks are exactly those the manifest names.
#[derive(Debug, Clone)]
pub struct HeldParts {
    /// Verified head and its facts.
    pub head: (Verified<v1::ClusterHead>, HeadFacts),
    /// Leaf fields.
    pub leaf: v1::Leaf,
    /// Path to the root.
    pub proof: v1::InclusionProof,
    /// Slots.
    pub manifest: Manifest,
    /// Encoded chunks, sorted by id.
    pub chunks: SharedMap<Digest, Arc<[u8]>>,
}

/// A snapshot that holds from the signed head down to every chunk.
#[derive(Debug, Clone)]
pub struct VerifiedSnapshot {
    parts: HeldParts,
    node: NodeId,
    leaf_hash: Digest,
    held: Held,
}

impl VerifiedSnapshot {
    /// Verifies everything below an already verified head. `expected` is the node it must be for.
    ///
    /// # Errors
    /// `snapshot.scope`, `snapshot.proof`, `snapshot.chunk_missing`, `snapshot.chunk_invalid`,
    /// `snapshot.semantic`, `snapshot.too_large`.
    pub fn verify(parts: SnapshotParts, expected: Option<NodeId>) -> Result<Self, Reject> {
        Self::build(None, parts, expected)
    }

    /// As [`Self::verify`] for the same node's next snapshot, of which `parts.chunks` need only hold what
    /// this one lacks. A slot with the chunk that it has here is not read again.
    ///
    /// # Errors
    /// Those of [`Self::verify`].
    pub fn advance(&self, parts: SnapshotParts) -> Result<Self, Reject> {
        Self::build(Some(self), parts, Some(self.node))
    }

    fn build(base: Option<&Self>, parts: SnapshotParts, expected: Option<NodeId>) -> Result<Self, Reject> {
        RootedSnapshot::check(parts, expected)?.finish(base)
    }

    /// The same contents under a newer head that did not change this node's leaf.
    ///
    /// # Errors
    /// `snapshot.proof`.
    pub fn under_head(
        &self,
        head: (Verified<v1::ClusterHead>, HeadFacts),
        proof: v1::InclusionProof,
    ) -> Result<Self, Reject> {
        check_inclusion(self.leaf_hash, &proof, &head.1)?;
        let mut next = self.clone();
        next.parts.head = head;
        next.parts.proof = proof;
        Ok(next)
    }

    /// Node it is for.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Cluster it belongs to.
    pub fn cluster(&self) -> ClusterId {
        self.parts.head.0.header().cluster
    }

    /// The head's facts.
    pub fn head(&self) -> &HeadFacts {
        &self.parts.head.1
    }

    /// The verified head document.
    pub fn head_document(&self) -> &Verified<v1::ClusterHead> {
        &self.parts.head.0
    }

    /// Hash of this node's leaf: equal leaves mean equal contents.
    pub fn leaf_hash(&self) -> Digest {
        self.leaf_hash
    }

    /// Slots.
    pub fn manifest(&self) -> &Manifest {
        &self.parts.manifest
    }

    /// Everything as it travels.
    pub fn parts(&self) -> &HeldParts {
        &self.parts
    }

    /// What it says.
    pub fn contents(&self) -> &SnapshotContents {
        self.held.contents()
    }
}

/// A snapshot whose slots are bound to the signed head, and whose chunks were not looked at.
#[derive(Debug)]
pub struct RootedSnapshot {
    parts: SnapshotParts,
    node: NodeId,
    leaf_hash: Digest,
}

impl RootedSnapshot {
    /// Verifies everything between an already verified head and the chunks. `expected` is the node it must be for.
    ///
    /// # Errors
    /// `snapshot.scope`, `snapshot.proof`, `snapshot.malformed`.
    pub fn check(parts: SnapshotParts, expected: Option<NodeId>) -> Result<Self, Reject> {
        let cluster = parts.head.0.header().cluster;
        let node = NodeId::from_slice(&parts.leaf.node_id)
            .map_err(|_| Reject::new(Reason::SnapshotMalformed, "leaf node_id"))?;
        if expected.is_some_and(|expected| expected != node) {
            return Err(Reject::new(Reason::SnapshotScope, "leaf names another node"));
        }
        let leaf_hash = hash_of(&parts.leaf, cluster, node, &parts.manifest)?;
        check_inclusion(leaf_hash, &parts.proof, &parts.head.1)?;
        Ok(Self { parts, node, leaf_hash })
    }

    /// The trust set, if these parts bring one that holds. It is as good as that of the whole snapshot: nothing in
    /// another chunk changes what it says.
    pub fn trust(&self) -> Option<v1::TrustChunk> {
        let id = self.parts.manifest.chunk(TRUST_SLOT)?;
        let bytes = self.parts.chunks.get(&id)?;
        match parse_chunk(TRUST_SLOT, bytes) {
            Ok(ParsedChunk::Trust(trust)) => Some(trust),
            Ok(_) | Err(_) => None,
        }
    }

    /// Verifies the chunks. `base` is the same node's snapshot before, if there is one.
    ///
    /// # Errors
    /// `snapshot.chunk_missing`, `snapshot.chunk_invalid`, `snapshot.semantic`, `snapshot.too_large`.
    pub fn finish(self, base: Option<&VerifiedSnapshot>) -> Result<VerifiedSnapshot, Reject> {
        let Self { parts, node, leaf_hash } = self;
        let SnapshotParts { head, leaf, proof, manifest, chunks: offered } = parts;
        let before = base.map(|base| (&base.parts.manifest, &base.parts.chunks, &base.held));
        let (chunks, held) = Draft::between(before, &manifest, &offered)?.finish(node)?;
        let parts = HeldParts { head, leaf, proof, manifest, chunks };
        Ok(VerifiedSnapshot { parts, node, leaf_hash, held })
    }
}

fn hash_of(leaf: &v1::Leaf, cluster: ClusterId, node: NodeId, manifest: &Manifest) -> Result<Digest, Reject> {
    let salt = leaf
        .salt
        .as_slice()
        .try_into()
        .map_err(|_| Reject::new(Reason::SnapshotMalformed, "a salt has 32 bytes"))?;
    Ok(leaf_hash(cluster, node, leaf.node_generation, &manifest.root(), salt))
}

fn check_inclusion(leaf: Digest, proof: &v1::InclusionProof, facts: &HeadFacts) -> Result<(), Reject> {
    let hashes = proof
        .hashes
        .iter()
        .map(|hash| Digest::from_slice(hash))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Reject::new(Reason::SnapshotProof, "a hash has 32 bytes"))?;
    if root_from_proof(leaf, proof.position, facts.tree_size, &hashes)? != facts.root {
        return Err(Reject::new(Reason::SnapshotProof, "does not lead to the root"));
    }
    Ok(())
}
