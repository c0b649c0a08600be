//! One signed version of a cluster: the plan, the head over it, and what a node's part of it is.
//!
//! Refuses to own signing, and who is told of a new version.

use std::sync::Arc;

use rap_contract::{HeadFacts, Reject, SnapshotParts, Verified, VerifiedSnapshot};
use rap_types::{Digest, HeadOrder, NodeId, Wall};
use rap_wire::v1;

use crate::Plan;

/// One signed version. Clones share the plan.
#[derive(Debug, Clone)]
pub struct Published {
    /// What follows from the rows.
    pub plan: Arc<Plan>,
    /// The encoded head over it, as stored.
    pub head: Arc<[u8]>,
    /// Its order.
    pub order: HeadOrder,
    /// Digest of the refresh-0 head before this version.
    pub previous: Option<Digest>,
    /// When it was signed.
    pub issued_at: Wall,
    /// Until when it is fresh.
    pub fresh_until: Wall,
}

impl Published {
    /// Hash of a node's leaf in this version.
    pub fn leaf_hash(&self, node: NodeId) -> Option<Digest> {
        self.plan.nodes.get(&node).map(|plan| plan.leaf_hash)
    }

    /// A node's whole snapshot, verified as the node would.
    pub fn snapshot(
        &self,
        node: NodeId,
        head: (Verified<v1::ClusterHead>, HeadFacts),
    ) -> Option<Result<VerifiedSnapshot, Reject>> {
        let plan = self.plan.nodes.get(&node)?;
        let manifest = plan.manifest.to_manifest();
        let chunks = manifest.iter().filter_map(|(_, id)| self.plan.chunks.get(&id).cloned()).collect();
        let parts = SnapshotParts {
            head,
            leaf: self.plan.leaf(node)?,
            proof: self.plan.proof(node)?,
            manifest,
            chunks,
        };
        Some(VerifiedSnapshot::verify(parts, Some(node)))
    }
}
