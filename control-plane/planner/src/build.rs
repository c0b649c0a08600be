//! From rows to a plan: of all rows, or of the rows that changed since another plan.
//!
//! Owns the order of the work. Both ways are one: a plan of all rows is what all of them change in no plan.
//! Refuses to own what a chunk says (chunks) and what fits (limits).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rap_contract::{Manifest, MerkleTree, SharedMap, leaf_hash};
use rap_types::{Digest, KeyId, NodeId};

use crate::chunks::{self, SlotChunk};
use crate::limits::{Candidate, Kind, left_out};
use crate::node_manifest::GroupBase;
use crate::plan::Member;
use crate::relays::{self, Offer, Scope};
use crate::{ClusterRows, LeftOut, MapKey, NodePlan, NodeRow, Plan, PlanError};

mod scopes;

/// Computes the plan of all rows.
///
/// # Errors
/// [`PlanError`] for rows that contradict each other or the chain of revocations.
pub fn plan(rows: &ClusterRows, map_key: &MapKey) -> Result<Plan, PlanError> {
    tracing::trace!(way = "every node gets its manifest");
    let mut draft = Draft::new(rows, map_key, None);
    let mut records = Vec::with_capacity(rows.nodes.len());
    let offers: BTreeMap<NodeId, Offer> =
        rows.nodes.iter().filter_map(|node| Some((node.node, Offer::of(rows, node)?))).collect();
    let offering = rows.nodes.iter().filter(|node| offers.contains_key(&node.node));
    let relays = relays::chosen(offering.map(|node| (node.node, node.organization, node.host_number)));
    for node in &rows.nodes {
        let peer = chunks::peer(rows, node, false)?;
        let candidate = Candidate {
            node: node.node,
            host_number: node.host_number,
            named: rows.leaves.contains_key(&node.node),
            kind: Kind {
                organization: node.organization,
                relays: relays.contains(&node.node),
                has_role: !node.roles.is_empty(),
            },
            whole: peer.0.cost(),
            short: peer.0.cost() - endpoint_bytes(node).min(peer.0.cost()),
        };
        records.push((peer, candidate));
    }
    let candidates: Vec<Candidate> = records.iter().map(|(_, candidate)| *candidate).collect();
    let relay_bytes: usize = relays.iter().filter_map(|node| offers.get(node)).map(Offer::cost).sum();
    draft.left_out = left_out(&candidates, rows.limits, draft.common_bytes() + relay_bytes);
    for (node, (peer, _)) in rows.nodes.iter().zip(records) {
        match draft.left_out.get(&node.node) {
            None => draft.enter(node, &peer)?,
            Some(LeftOut::Endpoints) => draft.enter(node, &chunks::peer(rows, node, true)?)?,
            Some(LeftOut::Node) => draft.admit(node)?,
        }
    }
    draft.finish()
}

impl Plan {
    /// Computes the plan of the rows that changed since this one: `rows` has the nodes that changed, the leaves
    /// that changed by other heads than this plan's, and the facts of the cluster whole. `None` if every row is
    /// needed.
    ///
    /// # Errors
    /// As [`plan`].
    pub fn next(&self, rows: &ClusterRows, map_key: &MapKey) -> Result<Option<Self>, PlanError> {
        tracing::trace!(way = "the plan before becomes the next one");
        let same = self.cluster == rows.cluster
            && self.incarnation == rows.incarnation
            && self.ipv4_pool == rows.ipv4_pool
            && self.loopback == rows.loopback
            && self.left_out.is_empty();
        if !same {
            return Ok(None);
        }
        let mut draft = Draft::new(rows, map_key, Some(self));
        for node in &rows.gone {
            draft.leave(*node);
        }
        for node in &rows.nodes {
            draft.enter(node, &chunks::peer(rows, node, false)?)?;
        }
        if !draft.is_within_limits() {
            return Ok(None);
        }
        draft.finish().map(Some)
    }
}

/// A plan in the making.
struct Draft<'a> {
    rows: &'a ClusterRows,
    map_key: &'a MapKey,
    base: Option<&'a Plan>,
    common: [SlotChunk; 2],
    touched: BTreeSet<NodeId>,
    left_out: BTreeMap<NodeId, LeftOut>,
    senseless: BTreeMap<NodeId, &'static str>,
    members: SharedMap<NodeId, Member>,
    /// Members that relay, once every member is there.
    relays: BTreeSet<NodeId>,
    chunks: SharedMap<Digest, Arc<[u8]>>,
}

impl<'a> Draft<'a> {
    fn new(rows: &'a ClusterRows, map_key: &'a MapKey, base: Option<&'a Plan>) -> Self {
        Self {
            rows,
            map_key,
            base,
            common: [chunks::trust(rows), chunks::policy(rows)],
            touched: BTreeSet::new(),
            left_out: BTreeMap::new(),
            senseless: base.map(|base| base.senseless.clone()).unwrap_or_default(),
            members: base.map(|base| base.members.clone()).unwrap_or_default(),
            relays: BTreeSet::new(),
            chunks: base.map(|base| base.chunks.clone()).unwrap_or_default(),
        }
    }

    /// Bytes of an update beside the records of peers and the relays.
    fn common_bytes(&self) -> usize {
        self.common.iter().map(SlotChunk::cost).sum::<usize>() + OWN_BYTES
    }

    fn admit(&self, node: &NodeRow) -> Result<(), PlanError> {
        let key = KeyId::of(&node.node_public_key);
        let admitted = self.rows.revocations.admits(node.node, &key, node.key_generation);
        if admitted { Ok(()) } else { Err(PlanError::NotAdmitted(node.node)) }
    }

    fn enter(
        &mut self,
        node: &NodeRow,
        (peer, senseless): &(SlotChunk, Option<&'static str>),
    ) -> Result<(), PlanError> {
        if !self.touched.insert(node.node) {
            return Err(PlanError::NodeRepeated(node.node));
        }
        self.admit(node)?;
        match senseless {
            Some(why) => self.senseless.insert(node.node, why),
            None => self.senseless.remove(&node.node),
        };
        let assignment = chunks::assignment(self.rows, node)?;
        let member = Member::new(node, peer, &assignment, Offer::of(self.rows, node));
        if let Some(before) = self.members.insert(node.node, member) {
            self.chunks.remove(&before.peer);
            self.chunks.remove(&before.assignment);
        }
        for chunk in [peer, &assignment] {
            self.chunks.insert(chunk.id, chunk.bytes.clone());
        }
        Ok(())
    }

    fn leave(&mut self, node: NodeId) {
        self.senseless.remove(&node);
        if let Some(before) = self.members.remove(&node) {
            self.chunks.remove(&before.peer);
            self.chunks.remove(&before.assignment);
            self.touched.insert(node);
        }
    }

    fn finish(mut self) -> Result<Plan, PlanError> {
        self.check()?;
        self.relays = self.chosen();
        if let Some(base) = self.base {
            // Others know a node by whether it relays: it is as good as changed.
            let turned = self.relays.symmetric_difference(&base.relays);
            self.touched.extend(turned.filter(|node| self.members.contains_key(node)));
        }
        let shared = self.shared();
        let bases = self.bases(&shared);
        let tree_size = self.tree_size();
        let (nodes, changed) = self.node_plans(&bases, tree_size);
        let tree = self.tree(&nodes, &changed, tree_size);
        let rows = self.rows;
        Ok(Plan {
            installation: rows.installation,
            cluster: rows.cluster,
            incarnation: rows.incarnation,
            version: rows.version,
            nodes,
            chunks: self.chunks,
            tree,
            left_out: self.left_out,
            senseless: self.senseless,
            members: self.members,
            relays: self.relays,
            bases,
            shared,
            ipv4_pool: rows.ipv4_pool,
            loopback: rows.loopback,
            revocations: rows.revocations.sequence(),
        })
    }

    /// What the members must be to each other and to the chain of revocations.
    fn check(&self) -> Result<(), PlanError> {
        let chain = &self.rows.revocations;
        let number_of =
            |members: &SharedMap<NodeId, Member>, node| members.get(node).map(|member| member.host_number);
        let same = |base: &Plan, node| number_of(&base.members, node) == number_of(&self.members, node);
        // Numbers are unique in the base.
        if !self.base.is_some_and(|base| self.touched.iter().all(|node| same(base, node))) {
            let mut numbers: Vec<u32> = self.members.values().map(|member| member.host_number).collect();
            numbers.sort_unstable();
            if let Some(pair) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(PlanError::HostNumberShared(pair[0]));
            }
        }
        if self.base.is_some_and(|base| base.revocations != chain.sequence()) {
            let admitted = |(node, member): &(&NodeId, &Member)| {
                chain.admits(**node, &member.key, member.key_generation)
            };
            if let Some((node, _)) = self.members.iter().find(|entry| !admitted(entry)) {
                return Err(PlanError::NotAdmitted(*node));
            }
        }
        if let Some(node) = self.rows.gone.iter().find(|node| chain.gone(**node).is_none()) {
            return Err(PlanError::NotRevoked(*node));
        }
        Ok(())
    }

    /// Smallest power of two above the highest host number, at least 2.
    fn tree_size(&self) -> u64 {
        let highest = self.members.values().map(|member| u64::from(member.host_number)).max().unwrap_or(0);
        (highest + 1).next_power_of_two().max(2)
    }

    /// Every node's part of the plan, and the nodes whose part is another than in the base.
    fn node_plans(
        &self,
        bases: &BTreeMap<Scope, Arc<Manifest>>,
        tree_size: u64,
    ) -> (SharedMap<NodeId, NodePlan>, BTreeSet<NodeId>) {
        let mut nodes = self.base.map(|base| base.nodes.clone()).unwrap_or_default();
        let mut groups: BTreeMap<Scope, GroupBase> = BTreeMap::new();
        let changed = self.changed(bases, tree_size);
        for node in &changed {
            let member = self.members.get(node).map(|member| (member, self.scope(*node, member)));
            match member.and_then(|(member, scope)| Some((member, scope, bases.get(&scope)?))) {
                Some((member, scope, base)) => {
                    let group = groups.entry(scope).or_insert_with(|| GroupBase::new(base.clone()));
                    nodes.insert(*node, self.node_plan(*node, member, group, tree_size));
                }
                None => drop(nodes.remove(node)),
            }
        }
        (nodes, changed)
    }

    /// Nodes whose part of the plan may be another than in the base: those touched, those with another leaf,
    /// and those of a scope whose base changed.
    fn changed(&self, bases: &BTreeMap<Scope, Arc<Manifest>>, tree_size: u64) -> BTreeSet<NodeId> {
        let Some(base) = self.base.filter(|base| base.tree.size() == tree_size) else {
            return self.members.keys().chain(&self.touched).copied().collect();
        };
        let same = |scope, manifest| base.bases.get(scope).is_some_and(|known| Arc::ptr_eq(known, manifest));
        let moved: BTreeSet<&Scope> =
            bases.iter().filter(|(scope, manifest)| !same(scope, manifest)).map(|(scope, _)| scope).collect();
        let mut changed: BTreeSet<NodeId> =
            self.touched.iter().chain(self.rows.leaves.keys()).copied().collect();
        if !moved.is_empty() {
            let of_moved =
                self.members.iter().filter(|(node, member)| moved.contains(&self.scope(**node, member)));
            changed.extend(of_moved.map(|(node, _)| *node));
        }
        changed
    }

    fn node_plan(&self, node: NodeId, member: &Member, group: &mut GroupBase, tree_size: u64) -> NodePlan {
        let known = self.base.and_then(|base| base.nodes.get(&node));
        let manifest = group.derive(node, member.assignment, known.map(|known| &known.manifest));
        let memory = match self.rows.leaves.get(&node) {
            Some(memory) => Some((memory.generation, memory.manifest_root)),
            None => known.map(|known| (known.generation, known.manifest.root())),
        };
        let generation = match memory {
            Some((generation, root)) if root == manifest.root() => generation,
            _ => self.rows.version.0,
        };
        let salt = match known {
            Some(known) if known.generation == generation => known.salt,
            _ => self.map_key.salt(node, generation),
        };
        NodePlan {
            leaf_hash: leaf_hash(self.rows.cluster, node, generation, &manifest.root(), &salt),
            position: self.position(node, member, tree_size),
            manifest,
            generation,
            salt,
        }
    }

    fn position(&self, node: NodeId, member: &Member, tree_size: u64) -> u64 {
        let base = self.base.filter(|base| base.tree.size() == tree_size);
        let same = |base: &&Plan| {
            base.members.get(&node).is_some_and(|known| known.host_number == member.host_number)
        };
        match base.filter(same).and_then(|base| base.nodes.get(&node)) {
            Some(known) => known.position,
            None => self.map_key.position(u64::from(member.host_number), tree_size),
        }
    }

    fn tree(
        &self,
        nodes: &SharedMap<NodeId, NodePlan>,
        changed: &BTreeSet<NodeId>,
        tree_size: u64,
    ) -> MerkleTree {
        if let Some(base) = self.base.filter(|base| base.tree.size() == tree_size) {
            let left = self.touched.iter().filter_map(|node| base.nodes.get(node));
            let mut leaves: BTreeMap<u64, Digest> =
                left.map(|before| (before.position, self.map_key.padding(before.position))).collect();
            let parts = changed.iter().filter_map(|node| nodes.get(node));
            leaves.extend(parts.map(|part| (part.position, part.leaf_hash)));
            return base.tree.with_leaves(&leaves);
        }
        let mut leaves: Vec<Option<Digest>> = vec![None; usize::try_from(tree_size).unwrap_or(usize::MAX)];
        for part in nodes.values() {
            leaves[part.position as usize] = Some(part.leaf_hash);
        }
        let padded = (0..).zip(leaves).map(|(at, leaf)| leaf.unwrap_or_else(|| self.map_key.padding(at)));
        let Some(tree) = MerkleTree::build(padded.collect()) else {
            unreachable!("tree_size is a power of two")
        };
        tree
    }
}

/// Bytes of the endpoints in a node's record, at most.
fn endpoint_bytes(node: &NodeRow) -> usize {
    node.link_endpoints.iter().chain(&node.wireguard_endpoints).map(|endpoint| endpoint.len() + 2).sum()
}

/// The node's assignment, head, leaf and proof in an update, at most.
const OWN_BYTES: usize = 16 * 1024;
