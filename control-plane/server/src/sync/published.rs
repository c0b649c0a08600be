//! The newest signed version of a cluster, as every stream of this replica sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rap_contract::{HeadFacts, VerifiedSnapshot};
use rap_planner::Plan;
use rap_types::{Digest, HeadOrder, Incarnation, NodeId, Wall};
use tokio::sync::watch;

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

/// Latest value only: a slow reader skips versions, it never queues them.
#[derive(Debug, Clone)]
pub struct Feed {
    newest: watch::Sender<Option<Arc<Published>>>,
    floor: Arc<AtomicU64>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { newest: watch::Sender::new(None), floor: Arc::default() }
    }
}

impl Feed {
    /// Replaces the newest version, unless its incarnation was ended meanwhile.
    pub fn publish(&self, published: Published) {
        self.newest.send_modify(|newest| {
            if published.order.incarnation.0 >= self.floor.load(Ordering::SeqCst) {
                *newest = Some(Arc::new(published));
            }
        });
    }

    /// Ends every incarnation up to `seen`: what is served of them is withdrawn, and a round that is
    /// under way cannot bring it back.
    pub fn end_incarnation(&self, seen: Incarnation) {
        self.newest.send_modify(|newest| {
            self.floor.fetch_max(seen.0.saturating_add(1), Ordering::SeqCst);
            if newest.as_ref().is_some_and(|published| published.order.incarnation <= seen) {
                *newest = None;
            }
        });
    }

    /// Stops serving: nothing is known to be right.
    pub fn withdraw(&self) {
        self.newest.send_replace(None);
    }

    /// The newest version now.
    pub fn newest(&self) -> Option<Arc<Published>> {
        self.newest.borrow().clone()
    }

    /// Follows the newest version.
    pub fn follow(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.newest.subscribe()
    }
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
        head: (rap_contract::Verified<rap_wire::v1::ClusterHead>, HeadFacts),
    ) -> Option<Result<VerifiedSnapshot, rap_contract::Reject>> {
        let plan = self.plan.nodes.get(&node)?;
        let chunks = plan
            .manifest
            .iter()
            .filter_map(|(_, id)| self.plan.chunks.get(&id).map(|chunk| (id, chunk.clone())))
            .collect();
        let parts = rap_contract::SnapshotParts {
            head,
            leaf: self.plan.leaf(node)?,
            proof: self.plan.proof(node)?,
            manifest: plan.manifest.clone(),
            chunks,
        };
        Some(VerifiedSnapshot::verify(parts, Some(node)))
    }
}
