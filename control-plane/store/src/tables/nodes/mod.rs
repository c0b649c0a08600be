//! Nodes: what is signed of them. What changes by itself is in [`super::contacts`].

mod change;
mod row;

use std::time::Duration;

use rap_authority::RowKeys;
use rap_types::{ClusterId, IdentityStatus, NodeId};
use sqlx::PgConnection;

pub use change::*;
pub use row::{NewNodeRow, NodeFacts, NodeRow};

use super::addresses::host_number_release;
use crate::StoreError;
use crate::authentic::{
    Authentic as _, Held, RowName, all_verified, find, held, insert, sorted_out, update, verified,
};
use crate::columns::{statements, texts};
use crate::row::select;
use crate::transaction::SystemTransaction;

statements! {
    NODE_LOCK = "SELECT 1 FROM nodes WHERE cluster_id = $1 AND node_id = $2 FOR UPDATE";
    NODE_READ = select!(NodeRow, "WHERE cluster_id = $1 AND node_id = $2");
    NODES_AMONG = select!(NodeRow, "WHERE cluster_id = $1 AND node_id = ANY($2) ORDER BY node_id");
    NODE_BY_NAME =
        select!(NodeRow, "WHERE cluster_id = $1 AND name = $2 AND identity_status NOT IN ('revoked', 'left')");
    NODE_BY_KEY = select!(
        NodeRow,
        "WHERE cluster_id = $1 AND node_public_key = $2 AND identity_status NOT IN ('revoked', 'left')"
    );
    NODES_GONE_BY_KEY = select!(
        NodeRow,
        "WHERE cluster_id = $1 AND node_public_key = $2 AND identity_status IN ('revoked', 'left') \
         ORDER BY status_at DESC, node_id DESC"
    );
    NODES_SILENT = "SELECT n.node_id, greatest(0, floor(extract(epoch FROM clock_timestamp() - \
            least(greatest(n.status_at, c.last_seen_at, clock_timestamp() - interval '10 years'), \
            clock_timestamp())) * 1000))::bigint \
        FROM nodes n LEFT JOIN node_contacts c ON c.node_id = n.node_id \
        WHERE n.cluster_id = $1 AND n.ephemeral AND n.identity_status IN ('active', 'draining') \
        ORDER BY 2 DESC, n.node_id LIMIT 10000";
    NODE_NAMES = "SELECT name FROM nodes WHERE cluster_id = $1 AND name = ANY($2) \
        AND identity_status NOT IN ('revoked', 'left')";
    NODE_ROLES_DROP = "DELETE FROM node_roles WHERE node_id = $1 AND role <> ALL($2)";
    NODE_ROLES_ADD = "INSERT INTO node_roles (node_id, role) SELECT $1, unnest($2::text[]) \
        ON CONFLICT (node_id, role) DO NOTHING";
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

/// The node with this id in the cluster of these keys.
pub async fn node_read(
    connection: &mut PgConnection,
    keys: &RowKeys,
    node: NodeId,
) -> Result<Option<NodeRow>, StoreError> {
    verified(find(NODE_READ, keys).bind(node.uuid()), connection, keys).await
}

/// The node with this id, locked: change it and give it to [`node_write`].
pub async fn node_hold(
    connection: &mut PgConnection,
    keys: &RowKeys,
    node: NodeId,
) -> Result<Option<Held<NodeRow>>, StoreError> {
    // Two statements: one that waits for a lock would see a new row with the roles of its old snapshot.
    let lock = sqlx::query(NODE_LOCK).bind(keys.cluster().uuid()).bind(node.uuid());
    lock.execute(&mut *connection).await?;
    held(find(NODE_READ, keys).bind(node.uuid()), connection, keys).await
}

/// Writes a node with its roles. A status that ends membership gives its host number back.
/// [`StoreError::Exists`] as for [`node_insert`].
pub async fn node_write(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    row: Held<NodeRow>,
) -> Result<(), StoreError> {
    update(transaction, keys, &row).await?;
    roles_write(transaction, &row.node).await?;
    if matches!(row.identity_status, IdentityStatus::Revoked | IdentityStatus::Left) {
        host_number_release(transaction, keys, &row.node).await?;
    }
    Ok(())
}

/// Makes the node's roles the rows of `node_roles`; those it keeps keep their row.
async fn roles_write(connection: &mut PgConnection, node: &NewNodeRow) -> Result<(), StoreError> {
    let roles = texts(&node.roles);
    sqlx::query(NODE_ROLES_DROP).bind(node.node.uuid()).bind(&roles).execute(&mut *connection).await?;
    sqlx::query(NODE_ROLES_ADD).bind(node.node.uuid()).bind(&roles).execute(connection).await?;
    Ok(())
}

/// The present (not revoked, not left) node with this name.
pub async fn node_by_name(
    connection: &mut PgConnection,
    keys: &RowKeys,
    name: &str,
) -> Result<Option<NodeRow>, StoreError> {
    verified(find(NODE_BY_NAME, keys).bind(name), connection, keys).await
}

/// The present (not revoked, not left) node with this identity key.
pub async fn node_by_key(
    connection: &mut PgConnection,
    keys: &RowKeys,
    node_public_key: &[u8; 32],
) -> Result<Option<NodeRow>, StoreError> {
    verified(find(NODE_BY_KEY, keys).bind(node_public_key.as_slice()), connection, keys).await
}

/// Gone nodes that had this identity key, the last to go first.
pub async fn nodes_gone_by_key(
    connection: &mut PgConnection,
    keys: &RowKeys,
    node_public_key: &[u8; 32],
) -> Result<Vec<NodeRow>, StoreError> {
    all_verified(find(NODES_GONE_BY_KEY, keys).bind(node_public_key.as_slice()), connection, keys).await
}

/// Ephemeral members by how long no replica has heard of them, the longest first, at most 10,000. Read with
/// the cluster locked, those that are absent still are when the transaction commits: contacts only grow.
/// Both ends are the database's clock, and no stored time makes the answer fail: what lies in the future is
/// now, and no silence is longer than ten years.
pub async fn nodes_silent(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<Vec<(NodeId, Duration)>, StoreError> {
    let query = sqlx::query_as(NODES_SILENT).bind(cluster.uuid());
    let rows: Vec<(uuid::Uuid, i64)> = query.fetch_all(connection).await?;
    let silence = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    Ok(rows.into_iter().map(|(node, ms)| (NodeId::from(node), silence(ms))).collect())
}

/// Every node the cluster ever had, by id; look at `identity_status`.
pub async fn nodes_list(connection: &mut PgConnection, keys: &RowKeys) -> Result<Vec<NodeRow>, StoreError> {
    all_verified(find(NodeRow::ALL, keys), connection, keys).await
}

/// These nodes of the cluster, by id; look at `identity_status`.
pub(crate) async fn nodes_among(
    connection: &mut PgConnection,
    keys: &RowKeys,
    nodes: &[NodeId],
) -> Result<Vec<NodeRow>, StoreError> {
    let nodes: Vec<uuid::Uuid> = nodes.iter().map(|node| node.uuid()).collect();
    all_verified(find(NODES_AMONG, keys).bind(nodes), connection, keys).await
}

/// All nodes of a cluster whose rows hold, by id, and the names of the rows that do not: to be shown.
pub async fn nodes_and_tampered(
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<(Vec<NodeRow>, Vec<RowName>), StoreError> {
    sorted_out(find(NodeRow::ALL, keys), connection, keys).await
}

/// Which of `names` present nodes have. Ask with the cluster locked to rely on the answer.
pub async fn node_names_taken(
    connection: &mut PgConnection,
    cluster: ClusterId,
    names: &[String],
) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar(NODE_NAMES).bind(cluster.uuid()).bind(names).fetch_all(connection).await?)
}
