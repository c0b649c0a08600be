//! Nodes: what is signed of them. What changes by itself is in [`super::contacts`].

use std::time::Duration;

use rap_types::{ClusterId, IdentityStatus, NodeId, OrganizationId, Role, TokenId, Wall};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};

use super::contacts::Contact;
use crate::StoreError;
use crate::columns::{bytes32, counter, id, id_option, statements, texts, unsigned, wall, word, words};

/// What admitting a node writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNodeRow {
    /// Id.
    pub node: NodeId,
    /// Cluster.
    pub cluster: ClusterId,
    /// Organization; `None` for the platform's own.
    pub organization: Option<OrganizationId>,
    /// Name, unique among the cluster's present nodes.
    pub name: String,
    /// Identity key, unique among the cluster's present nodes.
    pub node_public_key: [u8; 32],
    /// WireGuard key, unique among the cluster's present nodes.
    pub wireguard_public_key: [u8; 32],
    /// Number from [`crate::host_number_allocate`].
    pub host_number: u32,
    /// Assigned roles.
    pub roles: Vec<Role>,
    /// Vanishes after absence.
    pub ephemeral: bool,
    /// The rest of what is signed.
    pub facts: NodeFacts,
}

/// Signed facts that may change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Link endpoints, host:port.
    pub link_endpoints: Vec<String>,
    /// WireGuard endpoints, host:port.
    pub wireguard_endpoints: Vec<String>,
    /// Region hint; may be empty.
    pub region: String,
    /// Free labels.
    pub tags: Vec<String>,
    /// What the host says it can do; never a permission.
    pub capabilities: Vec<String>,
}

/// A node as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// As admitted, with the present facts and roles.
    pub node: NewNodeRow,
    /// Where its identity is in its life.
    pub identity_status: IdentityStatus,
    /// Certificate generation, from 1.
    pub key_generation: u64,
    /// When it was admitted.
    pub created_at: Wall,
    /// Its last contact, if there was one.
    pub contact: Option<Contact>,
}

impl FromRow<'_, PgRow> for NodeRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            node: NewNodeRow {
                node: id(row, "node_id")?,
                cluster: id(row, "cluster_id")?,
                organization: id_option(row, "organization_id")?,
                name: row.try_get("name")?,
                node_public_key: bytes32(row, "node_public_key")?,
                wireguard_public_key: bytes32(row, "wireguard_public_key")?,
                host_number: unsigned(row, "host_number")?,
                roles: words(row, "roles")?,
                ephemeral: row.try_get("ephemeral")?,
                facts: NodeFacts {
                    link_endpoints: row.try_get("link_endpoints")?,
                    wireguard_endpoints: row.try_get("wireguard_endpoints")?,
                    region: row.try_get("region")?,
                    tags: row.try_get("tags")?,
                    capabilities: row.try_get("capabilities")?,
                },
            },
            identity_status: word(row, "identity_status")?,
            key_generation: unsigned(row, "key_generation")?,
            created_at: wall(row, "created_at")?,
            contact: Contact::of_joined(row)?,
        })
    }
}

macro_rules! node_select {
    ($rest:literal) => {
        concat!(
            "SELECT n.node_id, n.cluster_id, n.organization_id, n.name, n.node_public_key, \
             n.wireguard_public_key, n.identity_status, n.host_number, n.link_endpoints, \
             n.wireguard_endpoints, n.region, n.tags, n.capabilities, n.ephemeral, n.key_generation, \
             n.created_at, ARRAY(SELECT r.role FROM node_roles r WHERE r.node_id = n.node_id ORDER BY r.role) \
             AS roles, c.last_seen_at, c.agent_version, c.acked_incarnation, c.acked_version, c.last_reject \
             FROM nodes n LEFT JOIN node_contacts c ON c.node_id = n.node_id ",
            $rest
        )
    };
}

statements! {
    NODE_INSERT = "INSERT INTO nodes (node_id, cluster_id, organization_id, name, node_public_key, \
        wireguard_public_key, identity_status, host_number, ephemeral, link_endpoints, wireguard_endpoints, \
        region, tags, capabilities) VALUES ($1, $2, $3, $4, $5, $6, 'active', $7, $8, $9, $10, $11, $12, $13)";
    NODE_READ = node_select!("WHERE n.node_id = $1");
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
    NODES_OF_TOKEN = "SELECT DISTINCT r.node_id FROM join_requests r JOIN nodes n ON n.node_id = r.node_id \
        WHERE r.token_id = $1 AND n.identity_status NOT IN ('revoked', 'left') ORDER BY r.node_id";
    NODES_ABSENT = "SELECT n.node_id FROM nodes n LEFT JOIN node_contacts c ON c.node_id = n.node_id \
        WHERE n.cluster_id = $1 AND n.ephemeral AND n.identity_status IN ('active', 'draining') \
            AND greatest(n.status_at, c.last_seen_at) < clock_timestamp() - $2 * interval '1 millisecond' \
        ORDER BY n.node_id LIMIT 256";
    NODE_READMIT = "UPDATE nodes SET identity_status = 'active', status_at = clock_timestamp(), \
            name = $2, wireguard_public_key = $3, host_number = $4, ephemeral = $5, link_endpoints = $6, \
            wireguard_endpoints = $7, region = $8, tags = $9, capabilities = $10, organization_id = $11, \
            key_generation = key_generation + 1, row_version = row_version + 1 \
        WHERE node_id = $1 AND identity_status IN ('revoked', 'left') RETURNING key_generation";
    NODE_IDENTITY_KEY_SET = "UPDATE nodes SET node_public_key = $2, key_generation = key_generation + 1, \
            row_version = row_version + 1 \
        WHERE node_id = $1 AND identity_status IN ('active', 'draining') RETURNING key_generation";
    NODES_LIST = node_select!("WHERE n.cluster_id = $1 ORDER BY n.node_id");
    NODE_NAMES = "SELECT name FROM nodes WHERE cluster_id = $1 AND name = ANY($2) \
        AND identity_status NOT IN ('revoked', 'left')";
    NODE_FACTS_SET = "UPDATE nodes SET link_endpoints = $2, wireguard_endpoints = $3, region = $4, \
        tags = $5, capabilities = $6, row_version = row_version + 1 WHERE node_id = $1";
    NODE_ROLES_DROP = "DELETE FROM node_roles WHERE node_id = $1 AND role <> ALL($2)";
    NODE_ROLES_ADD = "INSERT INTO node_roles (node_id, role) SELECT $1, unnest($2::text[]) \
        ON CONFLICT (node_id, role) DO NOTHING";
    NODE_STATUS_SET = "UPDATE nodes SET identity_status = $3, status_at = clock_timestamp(), \
        row_version = row_version + 1 WHERE node_id = $1 AND identity_status = $2";
    NODE_WIREGUARD_KEY_SET = "UPDATE nodes SET wireguard_public_key = $2, row_version = row_version + 1 \
        WHERE node_id = $1 AND wireguard_public_key <> $2 AND identity_status IN ('active', 'draining')";
    ADDRESS_RELEASE = "UPDATE node_addresses SET released_at = clock_timestamp(), \
        row_version = row_version + 1 WHERE node_id = $1 AND released_at IS NULL";
}

/// Adds an active node with its roles. [`StoreError::Exists`] names what is taken: constraint
/// `nodes_public_key`, `nodes_name`, `nodes_wireguard_key` or `nodes_host_number`.
pub async fn node_insert(connection: &mut PgConnection, new: &NewNodeRow) -> Result<(), StoreError> {
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
        .execute(&mut *connection)
        .await?;
    node_roles_set(connection, new.node, &new.roles).await
}

/// The node with this id.
pub async fn node_read(connection: &mut PgConnection, node: NodeId) -> Result<Option<NodeRow>, StoreError> {
    Ok(sqlx::query_as(NODE_READ).bind(node.uuid()).fetch_optional(connection).await?)
}

/// The present (not revoked, not left) node with this name.
pub async fn node_by_name(
    connection: &mut PgConnection,
    cluster: ClusterId,
    name: &str,
) -> Result<Option<NodeRow>, StoreError> {
    Ok(sqlx::query_as(NODE_BY_NAME).bind(cluster.uuid()).bind(name).fetch_optional(connection).await?)
}

/// The present (not revoked, not left) node with this identity key.
pub async fn node_by_key(
    connection: &mut PgConnection,
    cluster: ClusterId,
    node_public_key: &[u8; 32],
) -> Result<Option<NodeRow>, StoreError> {
    let query = sqlx::query_as(NODE_BY_KEY).bind(cluster.uuid()).bind(node_public_key.as_slice());
    Ok(query.fetch_optional(connection).await?)
}

/// Gone nodes that had this identity key, the last to go first.
pub async fn nodes_gone_by_key(
    connection: &mut PgConnection,
    cluster: ClusterId,
    node_public_key: &[u8; 32],
) -> Result<Vec<NodeRow>, StoreError> {
    let query = sqlx::query_as(NODES_GONE_BY_KEY).bind(cluster.uuid()).bind(node_public_key.as_slice());
    Ok(query.fetch_all(connection).await?)
}

/// Present nodes that this token admitted, by id.
pub async fn nodes_of_token(
    connection: &mut PgConnection,
    token: TokenId,
) -> Result<Vec<NodeId>, StoreError> {
    let ids: Vec<uuid::Uuid> =
        sqlx::query_scalar(NODES_OF_TOKEN).bind(token.uuid()).fetch_all(connection).await?;
    Ok(ids.into_iter().map(NodeId::from).collect())
}

/// Ephemeral members that no replica heard of for longer than `absence`, at most 256. Read with the
/// cluster locked, they are still absent when the transaction commits: contacts only grow.
pub async fn nodes_absent(
    connection: &mut PgConnection,
    cluster: ClusterId,
    absence: Duration,
) -> Result<Vec<NodeId>, StoreError> {
    let absence = i64::try_from(absence.as_millis()).map_err(|_| StoreError::Range("absence"))?;
    let query = sqlx::query_scalar(NODES_ABSENT).bind(cluster.uuid()).bind(absence);
    let ids: Vec<uuid::Uuid> = query.fetch_all(connection).await?;
    Ok(ids.into_iter().map(NodeId::from).collect())
}

/// Makes a gone node a member again, under the next key generation, which is returned. Its key stays.
/// `None` if it is not gone. [`StoreError::Exists`] as for [`node_insert`].
pub async fn node_readmit(
    connection: &mut PgConnection,
    new: &NewNodeRow,
) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query(NODE_READMIT)
        .bind(new.node.uuid())
        .bind(&new.name)
        .bind(new.wireguard_public_key.as_slice())
        .bind(counter("host_number", new.host_number.into())?)
        .bind(new.ephemeral)
        .bind(&new.facts.link_endpoints)
        .bind(&new.facts.wireguard_endpoints)
        .bind(&new.facts.region)
        .bind(&new.facts.tags)
        .bind(&new.facts.capabilities)
        .bind(new.organization.map(|id| id.uuid()))
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    node_roles_set(connection, new.node, &new.roles).await?;
    Ok(Some(unsigned(&row, "key_generation")?))
}

/// Replaces a member's identity key under the next generation, which is returned. `None` if the node is
/// not a member.
pub async fn node_identity_key_set(
    connection: &mut PgConnection,
    node: NodeId,
    node_public_key: &[u8; 32],
) -> Result<Option<u64>, StoreError> {
    let query = sqlx::query(NODE_IDENTITY_KEY_SET).bind(node.uuid()).bind(node_public_key.as_slice());
    let row = query.fetch_optional(connection).await?;
    Ok(row.map(|row| unsigned(&row, "key_generation")).transpose()?)
}

/// Every node the cluster ever had, by id; look at `identity_status`.
pub async fn nodes_list(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<Vec<NodeRow>, StoreError> {
    Ok(sqlx::query_as(NODES_LIST).bind(cluster.uuid()).fetch_all(connection).await?)
}

/// Which of `names` present nodes have. Ask with the cluster locked to rely on the answer.
pub async fn node_names_taken(
    connection: &mut PgConnection,
    cluster: ClusterId,
    names: &[String],
) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar(NODE_NAMES).bind(cluster.uuid()).bind(names).fetch_all(connection).await?)
}

/// Replaces a node's facts. False if there is no such node.
pub async fn node_facts_set(
    connection: &mut PgConnection,
    node: NodeId,
    facts: &NodeFacts,
) -> Result<bool, StoreError> {
    let done = sqlx::query(NODE_FACTS_SET)
        .bind(node.uuid())
        .bind(&facts.link_endpoints)
        .bind(&facts.wireguard_endpoints)
        .bind(&facts.region)
        .bind(&facts.tags)
        .bind(&facts.capabilities)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Makes `roles` the node's roles; those it keeps keep their row.
pub async fn node_roles_set(
    connection: &mut PgConnection,
    node: NodeId,
    roles: &[Role],
) -> Result<(), StoreError> {
    let roles = texts(roles);
    sqlx::query(NODE_ROLES_DROP).bind(node.uuid()).bind(&roles).execute(&mut *connection).await?;
    sqlx::query(NODE_ROLES_ADD).bind(node.uuid()).bind(&roles).execute(connection).await?;
    Ok(())
}

/// Moves a node from one status to another; revoked and left give its host number back. False if it
/// is not in status `from`.
pub async fn node_status_set(
    connection: &mut PgConnection,
    node: NodeId,
    from: IdentityStatus,
    to: IdentityStatus,
) -> Result<bool, StoreError> {
    let query = sqlx::query(NODE_STATUS_SET).bind(node.uuid()).bind(from.as_str()).bind(to.as_str());
    let moved = query.execute(&mut *connection).await?.rows_affected() == 1;
    if moved && matches!(to, IdentityStatus::Revoked | IdentityStatus::Left) {
        sqlx::query(ADDRESS_RELEASE).bind(node.uuid()).execute(connection).await?;
    }
    Ok(moved)
}

/// Replaces a member's WireGuard key. False if it is the same or the node is not a member.
pub async fn node_wireguard_key_set(
    connection: &mut PgConnection,
    node: NodeId,
    wireguard_public_key: &[u8; 32],
) -> Result<bool, StoreError> {
    let query = sqlx::query(NODE_WIREGUARD_KEY_SET).bind(node.uuid()).bind(wireguard_public_key.as_slice());
    Ok(query.execute(connection).await?.rows_affected() == 1)
}
