//! What one node must be sent to reach the plan.

use std::collections::BTreeSet;

use rap_contract::Manifest;
use rap_types::{Digest, NodeId};
use rap_wire::v1;

use crate::Plan;

impl Plan {
    /// The update that takes a node from `known` (what it acknowledged; `None` for nothing) to this plan
    /// under the encoded `head`. `None` if the node is not in the plan.
    ///
    /// A chunk travels only if the manifest it belongs to is this node's.
    pub fn update(&self, node: NodeId, known: Option<&Manifest>, head: &[u8]) -> Option<v1::SnapshotUpdate> {
        let target = &self.nodes.get(&node)?.manifest;
        let (slots_set, slots_removed) = known.unwrap_or(&Manifest::new()).delta(target);
        let held: BTreeSet<Digest> =
            known.map(|known| known.iter().map(|(_, chunk)| chunk).collect()).unwrap_or_default();
        let wanted: BTreeSet<Digest> =
            slots_set.iter().filter_map(|slot| Digest::from_slice(&slot.chunk_id).ok()).collect();
        let chunks =
            wanted.difference(&held).filter_map(|id| self.chunks.get(id)).map(|chunk| chunk.to_vec());
        Some(v1::SnapshotUpdate {
            head: head.to_vec(),
            leaf: self.leaf(node),
            proof: self.proof(node),
            full: known.is_none(),
            slots_set,
            slots_removed,
            chunks: chunks.collect(),
        })
    }
}
