//! The manifest root of each node in the newest head: the planner's state between versions.

use rap_types::{ClusterId, Digest, NodeId};
use sqlx::PgConnection;

use crate::Result;
use crate::counted::may_conflict;
use crate::query::{all, plain_row, statements};

/// A node's manifest as last published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafRow {
    /// Node.
    pub node: NodeId,
    /// Incarnation of the head.
    pub incarnation: u64,
    /// Version at which the manifest last changed.
    pub node_generation: u64,
    /// Its root.
    pub manifest_root: Digest,
}

plain_row!(LeafRow { node: node_id, incarnation, node_generation, manifest_root });

statements! {
    /// One column of each leaf after another.
    async fn leaves_write(
        cluster: ClusterId, nodes: &[NodeId], incarnation: &[u64], node_generation: &[u64], roots: &[Digest]
    ) -> () = may_conflict "INSERT INTO node_leaves \
            (cluster_id, node_id, incarnation, node_generation, manifest_root) \
        SELECT $1, t.* FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bytea[]) AS t \
        ON CONFLICT (cluster_id, node_id) DO UPDATE SET incarnation = excluded.incarnation, \
            node_generation = excluded.node_generation, manifest_root = excluded.manifest_root \
        WHERE (node_leaves.incarnation, node_leaves.node_generation) \
            < (excluded.incarnation, excluded.node_generation)";
    /// Leaves of these nodes, and of those that changed after `version` of `incarnation`, by node.
    pub(crate) async fn leaves_changed(
        cluster: ClusterId, nodes: &[NodeId], incarnation: u64, version: u64
    ) -> Vec<LeafRow> = all
        "SELECT node_id, incarnation, node_generation, manifest_root FROM node_leaves \
        WHERE cluster_id = $1 AND (node_id = ANY($2) OR incarnation > $3 \
            OR incarnation = $3 AND node_generation > $4) ORDER BY node_id";
    /// All leaves of a cluster, by node.
    pub(crate) async fn leaves_list(cluster: ClusterId) -> Vec<LeafRow> = all
        "SELECT node_id, incarnation, node_generation, manifest_root FROM node_leaves \
        WHERE cluster_id = $1 ORDER BY node_id";
}

/// Records changed leaves, in the transaction that inserts their head. An older generation never
/// replaces a newer one. Each node at most once.
pub async fn leaves_record(
    connection: &mut PgConnection,
    cluster: ClusterId,
    leaves: &[LeafRow],
) -> Result<()> {
    let mut leaves: Vec<&LeafRow> = leaves.iter().collect();
    // One order of locks for every replica: no deadlocks.
    leaves.sort_by_key(|leaf| leaf.node);
    let nodes: Vec<NodeId> = leaves.iter().map(|leaf| leaf.node).collect();
    let incarnations: Vec<u64> = leaves.iter().map(|leaf| leaf.incarnation).collect();
    let generations: Vec<u64> = leaves.iter().map(|leaf| leaf.node_generation).collect();
    let roots: Vec<Digest> = leaves.iter().map(|leaf| leaf.manifest_root).collect();
    leaves_write(connection, cluster, &nodes, &incarnations, &generations, &roots).await
}
