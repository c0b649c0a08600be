//! The plan of one version: every node's manifest and leaf, and the tree over them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rap_contract::{Manifest, MerkleTree, leaf_hash};
use rap_types::{
    ClusterId, Digest, Incarnation, InstallationId, KeyId, NodeId, OrganizationId, Reason, Version,
};
use rap_wire::v1;

use crate::chunks::{self, SlotChunk};
use crate::{ClusterRows, MapKey, NodeRow};

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
    pub manifest: Manifest,
    /// Root of the manifest.
    pub manifest_root: Digest,
    /// Version at which the manifest last changed.
    pub generation: u64,
    /// Salt of the leaf.
    pub salt: [u8; 32],
    /// Hash of the leaf.
    pub leaf_hash: Digest,
    /// Place in the tree.
    pub position: u64,
    organization: Option<OrganizationId>,
}

/// Everything that follows from the rows of one version.
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
    pub nodes: BTreeMap<NodeId, NodePlan>,
    /// Encoded chunks by id, shared by all manifests.
    pub chunks: BTreeMap<Digest, Arc<[u8]>>,
    /// The tree over all leaves.
    pub tree: MerkleTree,
    peers: BTreeMap<NodeId, Digest>,
}

/// Computes the plan of `rows`. `previous` only saves work: the result does not depend on it.
///
/// # Errors
/// [`PlanError`] for rows that contradict each other.
pub fn plan(rows: &ClusterRows, map_key: &MapKey, previous: Option<&Plan>) -> Result<Plan, PlanError> {
    check(rows)?;
    let previous = previous.filter(|plan| plan.cluster == rows.cluster);
    let shared = [chunks::trust(rows), chunks::policy(rows)];
    let peers: BTreeMap<NodeId, SlotChunk> = rows
        .nodes
        .iter()
        .map(|node| Ok((node.node, chunks::peer(rows, node)?)))
        .collect::<Result<_, PlanError>>()?;
    let members: BTreeMap<NodeId, &NodeRow> = rows.nodes.iter().map(|node| (node.node, node)).collect();
    let changed = changed_peers(&peers, &members, previous);
    let tree_size = tree_size(rows);

    let mut all_chunks = BTreeMap::new();
    let mut insert = |chunk: &SlotChunk| drop(all_chunks.insert(chunk.id, chunk.bytes.clone()));
    shared.iter().for_each(&mut insert);
    peers.values().for_each(&mut insert);
    let mut nodes = BTreeMap::new();
    for node in members.values() {
        let own = chunks::assignment(rows, node)?;
        insert(&own);
        let slots = [&shared[0], &shared[1], &own];
        let known = previous
            .and_then(|plan| plan.nodes.get(&node.node))
            .filter(|known| known.organization == node.organization);
        let manifest = match known {
            Some(known) => revised(&known.manifest, &slots, node, &members, &peers, &changed),
            None => from_scratch(&slots, node, &members, &peers),
        };
        nodes.insert(node.node, node_plan(rows, map_key, node, manifest, known, tree_size));
    }
    let mut leaves: Vec<Digest> = (0..tree_size).map(|position| map_key.padding(position)).collect();
    for node in nodes.values() {
        leaves[node.position as usize] = node.leaf_hash;
    }
    let Some(tree) = MerkleTree::build(leaves) else { unreachable!("tree_size is a power of two") };
    Ok(Plan {
        installation: rows.installation,
        cluster: rows.cluster,
        incarnation: rows.incarnation,
        version: rows.version,
        nodes,
        chunks: all_chunks,
        tree,
        peers: peers.into_iter().map(|(node, chunk)| (node, chunk.id)).collect(),
    })
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

    /// The inclusion proof of a node.
    pub fn proof(&self, node: NodeId) -> Option<v1::InclusionProof> {
        let position = self.nodes.get(&node)?.position;
        let hashes = self.tree.proof(position)?.iter().map(|hash| hash.to_vec()).collect();
        Some(v1::InclusionProof { position, hashes })
    }
}

fn check(rows: &ClusterRows) -> Result<(), PlanError> {
    let (mut numbers, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for node in &rows.nodes {
        if !ids.insert(node.node) {
            return Err(PlanError::NodeRepeated(node.node));
        }
        if !numbers.insert(node.host_number) {
            return Err(PlanError::HostNumberShared(node.host_number));
        }
        let key = KeyId::of(&node.node_public_key);
        if !rows.revocations.admits(node.node, &key, node.key_generation) {
            return Err(PlanError::NotAdmitted(node.node));
        }
    }
    if let Some(node) = rows.gone.iter().find(|node| rows.revocations.gone(**node).is_none()) {
        return Err(PlanError::NotRevoked(*node));
    }
    Ok(())
}

/// Smallest power of two above the highest host number, at least 2.
fn tree_size(rows: &ClusterRows) -> u64 {
    let highest = rows.nodes.iter().map(|node| u64::from(node.host_number)).max().unwrap_or(0);
    (highest + 1).next_power_of_two().max(2)
}

/// Peers whose record or visibility differs from the previous plan, gone ones included.
fn changed_peers(
    peers: &BTreeMap<NodeId, SlotChunk>,
    members: &BTreeMap<NodeId, &NodeRow>,
    previous: Option<&Plan>,
) -> BTreeSet<NodeId> {
    let Some(previous) = previous else { return peers.keys().copied().collect() };
    let same = |node: &NodeId, chunk: &SlotChunk| {
        previous.peers.get(node) == Some(&chunk.id)
            && previous.nodes.get(node).is_some_and(|plan| plan.organization == members[node].organization)
    };
    let new = peers.iter().filter(|(node, chunk)| !same(node, chunk)).map(|(node, _)| *node);
    let gone = previous.peers.keys().filter(|node| !peers.contains_key(*node)).copied();
    new.chain(gone).collect()
}

fn from_scratch(
    slots: &[&SlotChunk],
    node: &NodeRow,
    members: &BTreeMap<NodeId, &NodeRow>,
    peers: &BTreeMap<NodeId, SlotChunk>,
) -> Manifest {
    let seen = peers.iter().filter(|(peer, _)| node.sees(members[*peer])).map(|(_, chunk)| chunk);
    Manifest::from_slots(slots.iter().copied().chain(seen).map(|chunk| (chunk.slot.clone(), chunk.id)))
}

fn revised(
    known: &Manifest,
    slots: &[&SlotChunk],
    node: &NodeRow,
    members: &BTreeMap<NodeId, &NodeRow>,
    peers: &BTreeMap<NodeId, SlotChunk>,
    changed: &BTreeSet<NodeId>,
) -> Manifest {
    let mut set: Vec<v1::Slot> = Vec::new();
    let mut removed: Vec<String> = Vec::new();
    let visible = |peer: &NodeId| members.get(peer).is_some_and(|row| node.sees(row));
    let seen = changed.iter().filter(|peer| visible(peer)).filter_map(|peer| peers.get(peer));
    for chunk in slots.iter().copied().chain(seen) {
        if known.chunk(&chunk.slot) != Some(chunk.id) {
            set.push(v1::Slot { key: chunk.slot.clone(), chunk_id: chunk.id.to_vec() });
        }
    }
    for peer in changed.iter().filter(|peer| !visible(peer)) {
        let slot = rap_contract::peer_slot(*peer);
        if known.chunk(&slot).is_some() {
            removed.push(slot);
        }
    }
    if set.is_empty() && removed.is_empty() {
        return known.clone();
    }
    set.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    removed.sort_unstable();
    known.apply(&set, &removed).unwrap_or_else(|_| from_scratch(slots, node, members, peers))
}

fn node_plan(
    rows: &ClusterRows,
    map_key: &MapKey,
    node: &NodeRow,
    manifest: Manifest,
    known: Option<&NodePlan>,
    tree_size: u64,
) -> NodePlan {
    let manifest_root = match known {
        Some(known) if known.manifest == manifest => known.manifest_root,
        _ => manifest.root(),
    };
    let generation = match node.leaf {
        Some(memory) if memory.manifest_root == manifest_root => memory.generation,
        _ => rows.version.0,
    };
    let salt = map_key.salt(node.node, generation);
    NodePlan {
        leaf_hash: leaf_hash(rows.cluster, node.node, generation, &manifest_root, &salt),
        position: map_key.position(u64::from(node.host_number), tree_size),
        organization: node.organization,
        manifest,
        manifest_root,
        generation,
        salt,
    }
}
