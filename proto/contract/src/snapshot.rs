//! Stateless verification of a snapshot: head, proof, leaf, manifest, chunks, contents.
//!
//! Floors, freshness and equivocation need memory and live in rap-trust.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rap_types::{ClusterId, Digest, NodeId, Reason};
use rap_wire::v1;

use crate::{
    HeadFacts, Manifest, ParsedChunk, Reject, Verified, chunk_id, leaf_hash, parse_chunk, root_from_proof,
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
    /// Encoded chunks by id; more than the manifest names is allowed.
    pub chunks: BTreeMap<Digest, Arc<[u8]>>,
}

/// What a snapshot says, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotContents {
    /// Cluster CA and revocations.
    pub trust: v1::TrustChunk,
    /// Cluster-wide limits.
    pub policy: v1::PolicyChunk,
    /// The node's own duties and addresses.
    pub assignment: v1::NodeAssignment,
    /// Peers by node id.
    pub peers: BTreeMap<NodeId, v1::PeerRecord>,
}

/// A snapshot that holds from the signed head down to every chunk.
#[derive(Debug, Clone)]
pub struct VerifiedSnapshot {
    parts: SnapshotParts,
    node: NodeId,
    leaf_hash: Digest,
    contents: SnapshotContents,
}

impl VerifiedSnapshot {
    /// Verifies everything below an already verified head. `expected` is the node it must be for.
    ///
    /// # Errors
    /// `snapshot.scope`, `snapshot.proof`, `snapshot.chunk_missing`, `snapshot.chunk_invalid`,
    /// `snapshot.semantic`, `snapshot.too_large`.
    pub fn verify(mut parts: SnapshotParts, expected: Option<NodeId>) -> Result<Self, Reject> {
        let (head, facts) = &parts.head;
        let cluster = head.header().cluster;
        let node = NodeId::from_slice(&parts.leaf.node_id)
            .map_err(|_| Reject::new(Reason::SnapshotMalformed, "leaf node_id"))?;
        if expected.is_some_and(|expected| expected != node) {
            return Err(Reject::new(Reason::SnapshotScope, "leaf names another node"));
        }
        let leaf_hash = hash_of(&parts.leaf, cluster, node, &parts.manifest)?;
        check_proof(leaf_hash, &parts.proof, facts)?;
        let contents = read_contents(&parts.manifest, &parts.chunks, node)?;
        let used: BTreeSet<Digest> = parts.manifest.iter().map(|(_, chunk)| chunk).collect();
        parts.chunks.retain(|id, _| used.contains(id));
        Ok(Self { parts, node, leaf_hash, contents })
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
        check_proof(self.leaf_hash, &proof, &head.1)?;
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

    /// Everything as it travels: chunks are exactly those the manifest names.
    pub fn parts(&self) -> &SnapshotParts {
        &self.parts
    }

    /// What it says.
    pub fn contents(&self) -> &SnapshotContents {
        &self.contents
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

fn check_proof(leaf: Digest, proof: &v1::InclusionProof, facts: &HeadFacts) -> Result<(), Reject> {
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

fn read_contents(
    manifest: &Manifest,
    chunks: &BTreeMap<Digest, Arc<[u8]>>,
    node: NodeId,
) -> Result<SnapshotContents, Reject> {
    let semantic = |what| Reject::new(Reason::SnapshotSemantic, what);
    let (mut trust, mut policy, mut assignment) = (None, None, None);
    let mut peers = BTreeMap::new();
    for (slot, id) in manifest.iter() {
        let bytes = chunks.get(&id).ok_or(Reject::new(Reason::SnapshotChunkMissing, "chunk"))?;
        if chunk_id(bytes) != id {
            return Err(Reject::new(Reason::SnapshotChunkInvalid, "bytes do not match the id"));
        }
        match parse_chunk(slot, bytes)? {
            ParsedChunk::Trust(chunk) => trust = Some(chunk),
            ParsedChunk::Policy(chunk) => policy = Some(chunk),
            ParsedChunk::Assignment(chunk) => assignment = Some(*chunk),
            ParsedChunk::Peer(id, chunk) => drop(peers.insert(id, *chunk)),
            ParsedChunk::Unknown => {}
        }
    }
    let contents = SnapshotContents {
        trust: trust.ok_or(semantic("no trust chunk"))?,
        policy: policy.ok_or(semantic("no policy chunk"))?,
        assignment: assignment.ok_or(semantic("no assignment chunk"))?,
        peers,
    };
    check_semantics(&contents, node)?;
    Ok(contents)
}

fn check_semantics(contents: &SnapshotContents, node: NodeId) -> Result<(), Reject> {
    let semantic = |what| Reject::new(Reason::SnapshotSemantic, what);
    let own = &contents.assignment;
    if own.node_id != node.as_bytes() {
        return Err(Reject::new(Reason::SnapshotScope, "assignment names another node"));
    }
    if contents.peers.contains_key(&node) {
        return Err(semantic("the node is its own peer"));
    }
    let bare = |prefix: &str| prefix.split('/').next().unwrap_or_default().to_owned();
    let mut addresses = BTreeSet::from([bare(&own.overlay_ipv4), bare(&own.overlay_ipv6)]);
    let mut keys = BTreeSet::from([own.wireguard_public_key.as_slice()]);
    for peer in contents.peers.values() {
        let fresh_addresses =
            addresses.insert(peer.overlay_ipv4.clone()) && addresses.insert(peer.overlay_ipv6.clone());
        if !fresh_addresses || !keys.insert(&peer.wireguard_public_key) {
            return Err(semantic("two nodes share an address or a WireGuard key"));
        }
        if contents
            .trust
            .revoked
            .iter()
            .any(|revoked| revoked.node_id == peer.node_id && revoked.key_generation >= peer.key_generation)
        {
            return Err(semantic("a revoked node is a peer"));
        }
    }
    Ok(())
}
