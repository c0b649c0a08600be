//! Prepared authority keys that no record names yet, and the newest record that each node confirmed.

use rap_types::{ClusterId, NodeId, Wall};

use crate::counted::{may_conflict, one_row};
use crate::query::{all, optional, plain_row, statements};

/// A key that no record names yet.
#[derive(Debug, Clone)]
pub struct PreparedAuthorityRow {
    /// Cluster.
    pub cluster: ClusterId,
    /// Its public half.
    pub public_key: [u8; 32],
    /// Its private half, sealed for (`cluster_authority_prepared`, `sealed_private_key`).
    pub sealed_private_key: Vec<u8>,
}

/// What a present node keeps of its cluster's authority records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfirmationRow {
    /// Node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Newest record that it confirmed.
    pub sequence: Option<u64>,
    /// When.
    pub confirmed_at: Option<Wall>,
    /// When it was last heard of.
    pub last_seen_at: Option<Wall>,
}

plain_row!(PreparedAuthorityRow { cluster: cluster_id, public_key, sealed_private_key });
plain_row!(ConfirmationRow { node: node_id, name, sequence, confirmed_at, last_seen_at });

statements! {
    /// Keeps a key for the next rotation. A second one is refused with [`crate::StoreError::Exists`].
    pub async fn authority_prepared_insert(new: &PreparedAuthorityRow) -> () = one_row
        "INSERT INTO cluster_authority_prepared (cluster_id, public_key, sealed_private_key) VALUES ($1, $2, $3)";
    /// The key that waits, if there is one.
    pub async fn authority_prepared_read(cluster: ClusterId) -> Option<PreparedAuthorityRow> = optional
        "SELECT cluster_id, public_key, sealed_private_key FROM cluster_authority_prepared WHERE cluster_id = $1";
    /// Replaces the sealed form of the key that waits.
    pub async fn authority_prepared_rewrap(cluster: ClusterId, sealed_private_key: &[u8]) -> () = one_row
        "UPDATE cluster_authority_prepared SET sealed_private_key = $2 WHERE cluster_id = $1";
    /// Forgets the key that waits.
    pub async fn authority_prepared_delete(cluster: ClusterId) -> () = one_row
        "DELETE FROM cluster_authority_prepared WHERE cluster_id = $1";
    /// Records that a node keeps the records up to `sequence`. An earlier one changes nothing.
    pub async fn authority_confirm(node: NodeId, sequence: u64) -> () = may_conflict
        "INSERT INTO node_authority_confirmations AS c (node_id, sequence) VALUES ($1, $2) \
        ON CONFLICT (node_id) DO UPDATE SET sequence = excluded.sequence, confirmed_at = clock_timestamp() \
        WHERE c.sequence < excluded.sequence";
    /// What every present node of a cluster confirmed, by name.
    pub async fn authority_confirmations(cluster: ClusterId) -> Vec<ConfirmationRow> = all
        "SELECT n.node_id, n.name, a.sequence, a.confirmed_at, \
        CASE WHEN isfinite(c.last_seen_at) THEN c.last_seen_at END AS last_seen_at FROM nodes n \
        LEFT JOIN node_authority_confirmations a ON a.node_id = n.node_id \
        LEFT JOIN node_contacts c ON c.node_id = n.node_id \
        WHERE n.cluster_id = $1 AND n.identity_status IN ('active', 'draining') ORDER BY n.name";
}
