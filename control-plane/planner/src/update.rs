//! What one node must be sent to reach the plan.

use rap_types::{Digest, NodeId};
use rap_wire::v1;

use crate::{NodePlan, Plan};

impl Plan {
    /// The update that takes a node from `known` (its part of the plan that it acknowledged; `None` for nothing)
    /// to this plan under the encoded `head`. `None` if the node is not in the plan.
    ///
    /// A chunk travels only if the manifest it belongs to is this node's. A chunk names its slot, so a node
    /// holds the chunk of no slot that is set.
    pub fn update(&self, node: NodeId, known: Option<&NodePlan>, head: &[u8]) -> Option<v1::SnapshotUpdate> {
        let target = &self.nodes.get(&node)?.manifest;
        let (slots_set, slots_removed) = match known {
            Some(known) => known.manifest.delta(target),
            None => (target.to_wire(), Vec::new()),
        };
        let ids = slots_set.iter().filter_map(|slot| Digest::from_slice(&slot.chunk_id).ok());
        let chunks = ids.filter_map(|id| self.chunks.get(&id)).map(|chunk| chunk.to_vec()).collect();
        Some(v1::SnapshotUpdate {
            head: head.to_vec(),
            leaf: self.leaf(node),
            proof: self.proof(node),
            full: known.is_none(),
            slots_set,
            slots_removed,
            chunks,
        })
    }
}
