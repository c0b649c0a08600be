//! Break-glass grants that nodes applied: once per grant and node.

use rap_types::{ClusterId, Digest, NodeId, Wall};
use sqlx::PgConnection;

use crate::counted::may_conflict;
use crate::query::{all, found, plain_row, statements};
use crate::{Result, StoreError};

/// A grant that a node says it applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBreakGlassUse {
    /// Cluster.
    pub cluster: ClusterId,
    /// Node that applied it.
    pub node: NodeId,
    /// Names the grant.
    pub grant: Digest,
    /// `extend_degraded` or `permit_peer`.
    pub permit: String,
    /// `cluster-authority` or `product-root`.
    pub signer: String,
    /// Why it was given.
    pub reason: String,
    /// When it ends.
    pub expires_at: Wall,
    /// When the node applied it, by the node's clock.
    pub applied_at: Wall,
}

/// A use as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakGlassUse {
    /// As told.
    pub told: NewBreakGlassUse,
    /// When it was recorded.
    pub recorded_at: Wall,
}

plain_row!(NewBreakGlassUse {
    cluster: cluster_id,
    node: node_id,
    grant: grant_digest,
    permit,
    signer,
    reason,
    expires_at,
    applied_at,
});

plain_row!(BreakGlassUse { told: _, recorded_at });

statements! {
    async fn use_insert(new: &NewBreakGlassUse) -> bool = may_conflict "INSERT INTO break_glass_uses \
        (cluster_id, node_id, grant_digest, permit, signer, reason, expires_at, applied_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
    async fn is_recorded(node: NodeId, grant: Digest) -> bool = found
        "SELECT 1 FROM break_glass_uses WHERE node_id = $1 AND grant_digest = $2";
    /// Uses in a cluster, newest first, at most 1000.
    pub async fn break_glass_uses_list(cluster: ClusterId) -> Vec<BreakGlassUse> = all
        "SELECT cluster_id, node_id, grant_digest, permit, signer, reason, expires_at, applied_at, \
        recorded_at FROM break_glass_uses WHERE cluster_id = $1 ORDER BY recorded_at DESC LIMIT 1000";
}

/// Records a use; `false` if it was recorded before.
pub async fn break_glass_use_insert(connection: &mut PgConnection, new: &NewBreakGlassUse) -> Result<bool> {
    let inserted = use_insert(connection, new).await?;
    if !inserted && !is_recorded(connection, new.node, new.grant).await? {
        return Err(StoreError::Miscounted { table: "break_glass_uses", rows: 0 });
    }
    Ok(inserted)
}
