//! Nodes: what is signed of them. What changes by itself is in [`super::contacts`].

mod change;
mod row;

use std::time::Duration;

use rap_authority::RowKeys;
use rap_types::{ClusterId, IdentityStatus, NodeId};
use sqlx::PgConnection;

pub use change::*;
pub use row::{NewNodeRow, NodeFacts, NodeRow};

use self::row::covered;
use super::addresses::host_number_release;
use crate::authentic::{Authentic, Held, all_verified, held, sealing, sorted_out, verified, written};
use crate::columns::{counter, statements, texts};
use crate::{RowName, StoreError};

macro_rules! node_select {
    ($rest:literal) => {
        concat!(
            "SELECT n.node_id, n.cluster_id, n.organization_id, n.name, n.node_public_key, \
             n.wireguard_public_key, n.identity_status, n.host_number, n.link_endpoints, \
             n.wireguard_endpoints, n.region, n.tags, n.capabilities, n.ephemeral, n.key_generation, \
             n.created_at, n.row_version, n.row_mac, ARRAY(SELECT r.role FROM node_roles r WHERE r.node_id = n.node_id ORDER BY r.role) \
             AS roles, CASE WHEN isfinite(c.last_seen_at) THEN c.last_seen_at END AS last_seen_at, \
             c.agent_version, c.acked_incarnation, c.acked_version, c.last_reject \
             FROM nodes n LEFT JOIN node_contacts c ON c.node_id = n.node_id ",
            $rest
        )
    };
}

statements! {
    NODE_INSERT = "INSERT INTO nodes (node_id, cluster_id, organization_id, name, node_public_key, \
        wireguard_public_key, identity_status, host_number, ephemeral, link_endpoints, wireguard_endpoints, \
        region, tags, capabilities, row_mac) \
        VALUES ($1, $2, $3, $4, $5, $6, 'active', $7, $8, $9, $10, $11, $12, $13, $14)";
    NODE_LOCK = "SELECT 1 FROM nodes WHERE node_id = $1 AND cluster_id = $2 FOR UPDATE";
    NODE_READ = node_select!("WHERE n.node_id = $1 AND n.cluster_id = $2");
    NODE_BY_NAME = node_select!(
        "WHERE n.cluster_id = $1 AND n.name = $2 AND n.identity_status NOT IN ('revoked', 'left')"
    );
    NODE_BY_KEY = node_select!(
        "WHERE n.cluster_id = $1 AND n.node_public_key = $2 AND n.identity_status NOT IN ('revoked', 'left')"
    );
    NODES_GONE_BY_KEY = node_select!(
        "WHERE n.cluster_id = $1 AND n.node_public_key = $2 AND n.identity_status IN ('revoked', 'left') \
         ORDER BY n.status_at DESC, n.node_id DESC"
    );
    NODES_SILENT = "SELECT n.node_id, greatest(0, floor(extract(epoch FROM clock_timestamp() - \
            least(greatest(n.status_at, c.last_seen_at, clock_timestamp() - interval '10 years'), \
            clock_timestamp())) * 1000))::bigint \
        FROM nodes n LEFT JOIN node_contacts c ON c.node_id = n.node_id \
        WHERE n.cluster_id = $1 AND n.ephemeral AND n.identity_status IN ('active', 'draining') \
        ORDER BY 2 DESC, n.node_id LIMIT 10000";
    NODES_LIST = node_select!("WHERE n.cluster_id = $1 ORDER BY n.node_id");
    NODES_AFTER = node_select!(
        "WHERE n.cluster_id = $1 AND (n.node_id::text) COLLATE \"C\" > $2 \
         ORDER BY (n.node_id::text) COLLATE \"C\" LIMIT 500"
    );
    NODE_NAMES = "SELECT name FROM nodes WHERE cluster_id = $1 AND name = ANY($2) \
        AND identity_status NOT IN ('revoked', 'left')";
    NODE_WRITE = "UPDATE nodes SET organization_id = $3, name = $4, node_public_key = $5, \
        wireguard_public_key = $6, \
        status_at = CASE WHEN identity_status <> $7 THEN clock_timestamp() ELSE status_at END, \
        identity_status = $7, host_number = $8, ephemeral = $9, link_endpoints = $10, \
        wireguard_endpoints = $11, region = $12, tags = $13, capabilities = $14, key_generation = $15, \
        row_version = row_version + 1, row_mac = $16 WHERE node_id = $1 AND row_version = $2";
    NODE_ROLES_DROP = "DELETE FROM node_roles WHERE node_id = $1 AND role <> ALL($2)";
    NODE_ROLES_ADD = "INSERT INTO node_roles (node_id, role) SELECT $1, unnest($2::text[]) \
        ON CONFLICT (node_id, role) DO NOTHING";
}

/// Adds an active node with its roles. [`StoreError::Exists`] names what is taken: constraint
/// `nodes_public_key`, `nodes_name`, `nodes_wireguard_key` or `nodes_host_number`.
pub async fn node_insert(
    connection: &mut PgConnection,
    keys: &RowKeys,
    new: &NewNodeRow,
) -> Result<(), StoreError> {
    sealing(connection, keys).await?;
    let covered = covered(new, IdentityStatus::Active, 1);
    let row_mac = keys.seal(NodeRow::TABLE, &new.node.to_string(), 1, &covered);
    sqlx::query(NODE_INSERT)
        .bind(new.node.uuid())
        .bind(new.cluster.uuid())
        .bind(new.organization.map(|id| id.uuid()))
        .bind(&new.name)
        .bind(new.node_public_key.as_slice())
        .bind(new.wireguard_public_key.as_slice())
        .bind(counter("host_number", new.host_number.into())?)
        .bind(new.ephemeral)
        .bind(&new.facts.link_endpoints)
        .bind(&new.facts.wireguard_endpoints)
        .bind(&new.facts.region)
        .bind(&new.facts.tags)
        .bind(&new.facts.capabilities)
        .bind(row_mac.as_slice())
        .execute(&mut *connection)
        .await?;
    roles_write(connection, new).await
}

/// The node with this id in the cluster of these keys.
pub async fn node_read(
    connection: &mut PgConnection,
    keys: &RowKeys,
    node: NodeId,
) -> Result<Option<NodeRow>, StoreError> {
    let query = sqlx::query_as(NODE_READ).bind(node.uuid()).bind(keys.cluster().uuid());
    verified(query.fetch_optional(&mut *connection).await?, connection, keys).await
}

/// The node with this id, locked: change it and give it to [`node_write`].
pub async fn node_hold(
    connection: &mut PgConnection,
    keys: &RowKeys,
    node: NodeId,
) -> Result<Option<Held<NodeRow>>, StoreError> {
    // Two statements: one that waits for a lock would see a new row with the roles of its old snapshot.
    let lock = sqlx::query(NODE_LOCK).bind(node.uuid()).bind(keys.cluster().uuid());
    lock.execute(&mut *connection).await?;
    let query = sqlx::query_as(NODE_READ).bind(node.uuid()).bind(keys.cluster().uuid());
    held(query.fetch_optional(&mut *connection).await?, connection, keys).await
}

/// Writes a node with its roles. A status that ends membership gives its host number back.
/// [`StoreError::Exists`] as for [`node_insert`].
pub async fn node_write(
    connection: &mut PgConnection,
    keys: &RowKeys,
    row: Held<NodeRow>,
) -> Result<(), StoreError> {
    let node = &row.node;
    let done = sqlx::query(NODE_WRITE)
        .bind(node.node.uuid())
        .bind(row.stored_version()?)
        .bind(node.organization.map(|id| id.uuid()))
        .bind(&node.name)
        .bind(node.node_public_key.as_slice())
        .bind(node.wireguard_public_key.as_slice())
        .bind(row.identity_status.as_str())
        .bind(counter("host_number", node.host_number.into())?)
        .bind(node.ephemeral)
        .bind(&node.facts.link_endpoints)
        .bind(&node.facts.wireguard_endpoints)
        .bind(&node.facts.region)
        .bind(&node.facts.tags)
        .bind(&node.facts.capabilities)
        .bind(counter("key_generation", row.key_generation)?)
        .bind(row.next_mac(keys))
        .execute(&mut *connection)
        .await?;
    written(done.rows_affected())?;
    roles_write(connection, node).await?;
    if matches!(row.identity_status, IdentityStatus::Revoked | IdentityStatus::Left) {
        host_number_release(connection, keys, node).await?;
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
    let query = sqlx::query_as(NODE_BY_NAME).bind(keys.cluster().uuid()).bind(name);
    verified(query.fetch_optional(&mut *connection).await?, connection, keys).await
}

/// The present (not revoked, not left) node with this identity key.
pub async fn node_by_key(
    connection: &mut PgConnection,
    keys: &RowKeys,
    node_public_key: &[u8; 32],
) -> Result<Option<NodeRow>, StoreError> {
    let query = sqlx::query_as(NODE_BY_KEY).bind(keys.cluster().uuid()).bind(node_public_key.as_slice());
    verified(query.fetch_optional(&mut *connection).await?, connection, keys).await
}

/// Gone nodes that had this identity key, the last to go first.
pub async fn nodes_gone_by_key(
    connection: &mut PgConnection,
    keys: &RowKeys,
    node_public_key: &[u8; 32],
) -> Result<Vec<NodeRow>, StoreError> {
    let query =
        sqlx::query_as(NODES_GONE_BY_KEY).bind(keys.cluster().uuid()).bind(node_public_key.as_slice());
    all_verified(query.fetch_all(&mut *connection).await?, connection, keys).await
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
    all_verified(
        sqlx::query_as(NODES_LIST).bind(keys.cluster().uuid()).fetch_all(&mut *connection).await?,
        connection,
        keys,
    )
    .await
}

/// All nodes of a cluster whose rows hold, by id, and the names of the rows that do not: to be shown.
pub async fn nodes_and_tampered(
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<(Vec<NodeRow>, Vec<RowName>), StoreError> {
    let rows = sqlx::query_as(NODES_LIST).bind(keys.cluster().uuid()).fetch_all(&mut *connection).await?;
    sorted_out(rows, connection, keys).await
}

/// Which of `names` present nodes have. Ask with the cluster locked to rely on the answer.
pub async fn node_names_taken(
    connection: &mut PgConnection,
    cluster: ClusterId,
    names: &[String],
) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar(NODE_NAMES).bind(cluster.uuid()).bind(names).fetch_all(connection).await?)
}
