//! The plan of one version: every node's manifest and leaf, and the tree over them.
//!
//! Owns what a plan is and what can be asked of it. Refuses to own how it is made (build).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::Ipv4Net;
use rap_contract::{Manifest, MerkleTree, SharedMap};
use rap_types::sense::Loopback;
use rap_types::{
    ClusterId, Digest, Incarnation, InstallationId, KeyId, NodeId, OrganizationId, Reason, Version,
};
use rap_wire::v1;

use crate::chunks::SlotChunk;
use crate::relays::{Offer, Scope};
use crate::{LeftOut, NodeManifest, NodeRow};

/// Rows that no plan can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A host number is zero or outside the pool.
    #[error("node {0} has a host number outside the pool")]
    HostNumber(NodeId),
    /// Two nodes have the same host number.
    #[error("two nodes share host number {0}")]
    HostNumberShared(u32),
    /// Two rows have the same node id.
    #[error("two rows name node {0}")]
    NodeRepeated(NodeId),
    /// A row says member, and the chain of revocations does not admit that key and generation.
    #[error("node {0} is a member by its row, and the chain of revocations does not admit its key")]
    NotAdmitted(NodeId),
    /// A row says gone, and no record does.
    #[error("node {0} is gone by its row, and no revocation says so")]
    NotRevoked(NodeId),
}

impl PlanError {
    /// Stable reason code.
    pub const fn reason(&self) -> Reason {
        Reason::RowTampered
    }
}

/// One node's part of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// Slots the node may hold.
    pub manifest: NodeManifest,
    /// Version at which the manifest last changed.
    pub generation: u64,
    /// Salt of the leaf.
    pub salt: [u8; 32],
    /// Hash of the leaf.
    pub leaf_hash: Digest,
    /// Index in the tree.
    pub position: u64,
}

/// What a plan keeps of a member's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) organization: Option<OrganizationId>,
    pub(crate) host_number: u32,
    pub(crate) key: KeyId,
    pub(crate) key_generation: u64,
    /// Chunk of the record that others may know.
    pub(crate) peer: Digest,
    /// Chunk of its own assignment.
    pub(crate) assignment: Digest,
    /// Bytes that the record takes in an update.
    pub(crate) cost: usize,
    pub(crate) has_role: bool,
    /// What it says of itself if it can relay.
    pub(crate) offer: Option<Offer>,
}

impl Member {
    pub(crate) fn new(
        node: &NodeRow,
        peer: &SlotChunk,
        assignment: &SlotChunk,
        offer: Option<Offer>,
    ) -> Self {
        Self {
            organization: node.organization,
            host_number: node.host_number,
            key: KeyId::of(&node.node_public_key),
            key_generation: node.key_generation,
            peer: peer.id,
            assignment: assignment.id,
            cost: peer.cost(),
            has_role: !node.roles.is_empty(),
            offer,
        }
    }
}

/// Everything that follows from the rows of one version. A clone, and a next plan, share what did not change.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Installation.
    pub installation: InstallationId,
    /// Cluster.
    pub cluster: ClusterId,
    /// Incarnation of the rows.
    pub incarnation: Incarnation,
    /// Version of the rows.
    pub version: Version,
    /// Every node's part.
    pub nodes: SharedMap<NodeId, NodePlan>,
    /// Encoded chunks by id, shared by all manifests.
    pub chunks: SharedMap<Digest, Arc<[u8]>>,
    /// The tree over all leaves.
    pub tree: MerkleTree,
    /// What the rows hold and the plan does not, because a limit would be exceeded.
    pub left_out: BTreeMap<NodeId, LeftOut>,
    /// Nodes of whose row something makes no sense and is left out of the record: why.
    pub senseless: BTreeMap<NodeId, &'static str>,
    pub(crate) members: SharedMap<NodeId, Member>,
    /// Members that relay.
    pub(crate) relays: BTreeSet<NodeId>,
    pub(crate) bases: BTreeMap<Scope, Arc<Manifest>>,
    /// Slots that are no records, with their owners and chunks: what [`Scope::holds`] is in a manifest.
    pub(crate) shared: Vec<(Option<OrganizationId>, String, Digest)>,
    pub(crate) ipv4_pool: Ipv4Net,
    pub(crate) loopback: Loopback,
    pub(crate) revocations: u64,
}

impl Plan {
    /// The leaf of a node as it travels.
    pub fn leaf(&self, node: NodeId) -> Option<v1::Leaf> {
        self.nodes.get(&node).map(|plan| v1::Leaf {
            node_id: node.to_vec(),
            node_generation: plan.generation,
            salt: plan.salt.to_vec(),
        })
    }

    /// Whether a node may know another one: its manifest has the slot of that peer.
    pub fn knows(&self, node: NodeId, peer: NodeId) -> bool {
        let scope = |node| {
            let member = self.members.get(&node)?;
            Some(Scope::of(member.organization, member.offer.is_some() && self.relays.contains(&node)))
        };
        node != peer && scope(node).zip(scope(peer)).is_some_and(|(one, other)| one.sees(other))
    }

    /// The inclusion proof of a node.
    pub fn proof(&self, node: NodeId) -> Option<v1::InclusionProof> {
        let position = self.nodes.get(&node)?.position;
        let hashes = self.tree.proof(position)?.iter().map(|hash| hash.to_vec()).collect();
        Some(v1::InclusionProof { position, hashes })
    }
}
