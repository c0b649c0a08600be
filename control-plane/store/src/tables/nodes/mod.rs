//! Nodes: what is signed of them. What changes by itself is in [`super::contacts`].

mod change;
mod row;

use std::collections::BTreeSet;
use std::time::Duration;

use rap_authority::RowKeys;
use rap_types::{ClusterId, IdentityStatus, NodeId, OrganizationId};
use sqlx::PgConnection;

pub use change::*;
pub use row::{NewNodeRow, NodeFacts, NodeRow};

use super::addresses::host_number_release;
use crate::StoreError;
use crate::authentic::{Authentic as _, Held, all_verified, held, insert, sorted_out, update, verified};
use crate::columns::texts;
use crate::counted::may_conflict;
use crate::query::{all, done, one, statements};
use crate::row::select;
use crate::row_name::RowName;
use crate::transaction::SystemTransaction;

statements! {
    /// Waits for whoever else has locked the node.
    async fn node_lock(cluster: ClusterId, node: NodeId) -> () = done
        "SELECT 1 FROM nodes WHERE cluster_id = $1 AND node_id = $2 FOR UPDATE";
    /// The node with this id in the cluster of these keys.
    pub async fn node_read(keys, node: NodeId) -> Option<NodeRow> = verified
        select!(NodeRow, "WHERE cluster_id = $1 AND node_id = $2");
    /// As [`node_read`], of a node that [`node_lock`] locked.
    async fn node_locked(keys, node: NodeId) -> Option<Held<NodeRow>> = held
        select!(NodeRow, "WHERE cluster_id = $1 AND node_id = $2");
    /// These nodes of the cluster, by id; look at `identity_status`.
    pub(crate) async fn nodes_among(keys, nodes: &[NodeId]) -> Vec<NodeRow> = all_verified
        select!(NodeRow, "WHERE cluster_id = $1 AND node_id = ANY($2) ORDER BY node_id");
    /// The present (not revoked, not left) node with this name.
    pub async fn node_by_name(keys, name: &str) -> Option<NodeRow> = verified
        select!(NodeRow, "WHERE cluster_id = $1 AND name = $2 AND identity_status NOT IN ('revoked', 'left')");
    /// The present (not revoked, not left) node with this identity key.
    pub async fn node_by_key(keys, node_public_key: &[u8; 32]) -> Option<NodeRow> = verified select!(
        NodeRow,
        "WHERE cluster_id = $1 AND node_public_key = $2 AND identity_status NOT IN ('revoked', 'left')"
    );
    /// Gone nodes that had this identity key, the last to go first.
    pub async fn nodes_gone_by_key(keys, node_public_key: &[u8; 32]) -> Vec<NodeRow> = all_verified select!(
        NodeRow,
        "WHERE cluster_id = $1 AND node_public_key = $2 AND identity_status IN ('revoked', 'left') \
         ORDER BY status_at DESC, node_id DESC"
    );
    /// Every node the cluster ever had, by id; look at `identity_status`.
    pub async fn nodes_list(keys) -> Vec<NodeRow> = all_verified NodeRow::ALL;
    /// All nodes of a cluster whose rows hold, by id, and the names of the rows that do not: to be shown.
    pub async fn nodes_and_tampered(keys) -> (Vec<NodeRow>, Vec<RowName>) = sorted_out NodeRow::ALL;
    /// Ephemeral members with the milliseconds for which no replica has heard of them.
    async fn silences(cluster: ClusterId) -> Vec<(NodeId, u64)> = all
        "SELECT n.node_id, greatest(0, floor(extract(epoch FROM clock_timestamp() - \
            least(greatest(n.status_at, c.last_seen_at, clock_timestamp() - interval '10 years'), \
            clock_timestamp())) * 1000))::bigint \
        FROM nodes n LEFT JOIN node_contacts c ON c.node_id = n.node_id \
        WHERE n.cluster_id = $1 AND n.ephemeral AND n.identity_status IN ('active', 'draining') \
        ORDER BY 2 DESC, n.node_id LIMIT 10000";
    /// Which of `names` present nodes have. Ask with the cluster locked to rely on the answer.
    pub async fn node_names_taken(cluster: ClusterId, names: &[String]) -> Vec<String> = all
        "SELECT name FROM nodes WHERE cluster_id = $1 AND name = ANY($2) \
        AND identity_status NOT IN ('revoked', 'left')";
    /// How many nodes a member of an organization knows at most if it has no role, itself included, and how many
    /// such members there are; `None` is the platform. Ask with the cluster locked to rely on the answer.
    pub async fn plain_scope(cluster: ClusterId, organization: Option<OrganizationId>) -> (u64, u64) = one
        "SELECT count(*) FILTER (WHERE own) + least(64, count(*) FILTER (WHERE relays AND NOT own)) AS known, \
            count(*) FILTER (WHERE own AND NOT has_role) AS plain \
        FROM (SELECT n.organization_id IS NOT DISTINCT FROM $2 AS own, \
            n.organization_id IS NULL AND EXISTS (SELECT 1 FROM node_roles r \
                WHERE r.node_id = n.node_id AND r.role IN ('core', 'relay-node')) AS relays, \
            EXISTS (SELECT 1 FROM node_roles r WHERE r.node_id = n.node_id) AS has_role \
            FROM nodes n WHERE n.cluster_id = $1 AND n.identity_status IN ('active', 'draining')) AS present";
    /// Takes the roles from a node that are not among these.
    async fn roles_drop(node: NodeId, roles: &[String]) -> () = may_conflict
        "DELETE FROM node_roles WHERE node_id = $1 AND role <> ALL($2)";
    /// Gives a node these roles.
    async fn roles_add(node: NodeId, roles: &[String]) -> () = may_conflict
        "INSERT INTO node_roles (node_id, role) SELECT $1, unnest($2::text[]) \
        ON CONFLICT (node_id, role) DO NOTHING";
    async fn roles_count(node: NodeId) -> u64 = one "SELECT count(*) FROM node_roles WHERE node_id = $1";
}

/// Adds an active node with its roles. [`StoreError::Exists`] names what is taken: constraint
/// `nodes_public_key`, `nodes_name`, `nodes_wireguard_key` or `nodes_host_number`.
pub async fn node_insert(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    new: &NewNodeRow,
) -> Result<(), StoreError> {
    insert(transaction, keys, &new.first()).await?;
    roles_write(transaction, new).await
}

/// The node with this id, locked: change it and give it to [`node_write`].
pub async fn node_hold(
    connection: &mut PgConnection,
    keys: &RowKeys,
    node: NodeId,
) -> Result<Option<Held<NodeRow>>, StoreError> {
    // Two statements: one that waits for a lock would see a new row with the roles of its old snapshot.
    node_lock(connection, keys.cluster(), node).await?;
    node_locked(connection, keys, node).await
}

/// Writes a node with its roles. A status that ends membership gives its host number back.
/// [`StoreError::Exists`] as for [`node_insert`].
pub async fn node_write(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    row: Held<NodeRow>,
) -> Result<(), StoreError> {
    let row = update(transaction, keys, row).await?;
    roles_write(transaction, &row.node).await?;
    if matches!(row.identity_status, IdentityStatus::Revoked | IdentityStatus::Left) {
        host_number_release(transaction, keys, &row.node).await?;
    }
    Ok(())
}

/// Makes the node's roles the rows of `node_roles`; those it keeps keep their row.
async fn roles_write(connection: &mut PgConnection, node: &NewNodeRow) -> Result<(), StoreError> {
    let roles = texts(&node.roles);
    roles_drop(connection, node.node, &roles).await?;
    roles_add(connection, node.node, &roles).await?;
    match roles_count(connection, node.node).await? {
        rows if rows == roles.iter().collect::<BTreeSet<_>>().len() as u64 => Ok(()),
        rows => Err(StoreError::Miscounted { table: "node_roles", rows }),
    }
}

/// Ephemeral members by how long no replica has heard of them, the longest first, at most 10,000. Read with
/// the cluster locked, those that are absent still are when the transaction commits: contacts only grow.
/// Both ends are the database's clock, and no stored time makes the answer fail: what lies in the future is
/// now, and no silence is longer than ten years.
pub async fn nodes_silent(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<Vec<(NodeId, Duration)>, StoreError> {
    let silences = silences(connection, cluster).await?;
    Ok(silences.into_iter().map(|(node, ms)| (node, Duration::from_millis(ms))).collect())
}
