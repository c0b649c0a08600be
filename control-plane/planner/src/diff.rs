//! What a change sends to whom: the difference of two plans, node by node.
//!
//! Refuses to own how the two plans came about.

use std::collections::BTreeMap;

use prost::Message as _;
use rap_types::NodeId;
use rap_wire::v1;
use v1::chunk::Body;

use crate::{NodePlan, Plan};

/// The records that a node receives or loses, as slot keys, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeDiff {
    /// Records that it does not hold before.
    pub appear: Vec<String>,
    /// Records that it holds before with another content.
    pub change: Vec<String>,
    /// Records that it does not hold afterwards.
    pub disappear: Vec<String>,
}

/// What nodes that hold one plan receive when the next one is published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanDiff {
    /// Nodes by what they receive. A node that receives no record is in none.
    pub receivers: BTreeMap<NodeDiff, Vec<NodeId>>,
    /// Nodes that the next plan does not hold: they receive nothing, and every link to them ends.
    pub cut_off: Vec<NodeId>,
}

impl Plan {
    /// What nodes that hold this plan receive when `next` is published.
    pub fn diff(&self, next: &Self) -> PlanDiff {
        let mut diff = PlanDiff::default();
        for (node, part) in next.nodes.iter() {
            let known = self.nodes.get(node);
            if known.is_some_and(|known| known.leaf_hash == part.leaf_hash) {
                continue;
            }
            diff.receivers.entry(NodeDiff::between(known, part)).or_default().push(*node);
        }
        diff.receivers.remove(&NodeDiff::default());
        diff.cut_off = self.nodes.keys().filter(|node| next.nodes.get(node).is_none()).copied().collect();
        diff
    }

    /// The name of a member; `None` if the plan does not hold it.
    pub fn name(&self, node: NodeId) -> Option<String> {
        let chunk = self.chunks.get(&self.members.get(&node)?.peer)?;
        match v1::Chunk::decode(chunk.as_ref()).ok()?.body? {
            Body::Peer(record) => Some(record.name),
            Body::Trust(_) | Body::Policy(_) | Body::Assignment(_) | Body::Relays(_) => None,
        }
    }
}

impl NodeDiff {
    fn between(known: Option<&NodePlan>, next: &NodePlan) -> Self {
        let (set, disappear) = match known {
            Some(known) => known.manifest.delta(&next.manifest),
            None => (next.manifest.to_wire(), Vec::new()),
        };
        let is_held = |slot: &v1::Slot| known.is_some_and(|known| known.manifest.chunk(&slot.key).is_some());
        let (change, appear): (Vec<_>, Vec<_>) = set.into_iter().partition(is_held);
        let keys = |slots: Vec<v1::Slot>| slots.into_iter().map(|slot| slot.key).collect();
        Self { appear: keys(appear), change: keys(change), disappear }
    }
}
