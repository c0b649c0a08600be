//! Clusters and their policies.

use rap_types::{ClusterId, Wall};
use sqlx::postgres::PgRow;
use sqlx::types::ipnet::{IpNet, Ipv4Net};
use sqlx::{FromRow, PgConnection, Row};

use crate::StoreError;
use crate::columns::{counter, id, statements, unsigned, unsigned_option, wall};

/// What creating a cluster writes.
#[derive(Debug, Clone)]
pub struct NewClusterRow {
    /// Id.
    pub cluster: ClusterId,
    /// Unique name.
    pub name: String,
    /// First incarnation.
    pub incarnation: u64,
    /// IPv4 overlay pool.
    pub ipv4_pool: Ipv4Net,
    /// Made by a development installation.
    pub dev: bool,
    /// How long a head is fresh, milliseconds.
    pub fresh_for_ms: u64,
    /// How often an idle head is signed again, milliseconds; less than `fresh_for_ms`.
    pub refresh_every_ms: u64,
    /// How long a node works on past `fresh_until`, milliseconds; at most half the leaf lifetime.
    pub degraded_for_ms: u64,
    /// Life of a node certificate, milliseconds.
    pub leaf_lifetime_ms: u64,
    /// Key of the Merkle map, sealed for (`clusters`, `sealed_map_key`).
    pub sealed_map_key: Vec<u8>,
}

/// A cluster as stored.
#[derive(Debug, Clone)]
pub struct ClusterRow {
    /// As created; `incarnation` is the present one.
    pub cluster: NewClusterRow,
    /// Last allocated configuration sequence; 0 = none yet.
    pub config_seq: u64,
    /// When it was created.
    pub created_at: Wall,
}

/// Numbers of one cluster for status screens (view `cluster_admin_summaries`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSummary {
    /// Cluster.
    pub cluster: ClusterId,
    /// Name.
    pub name: String,
    /// Present incarnation.
    pub incarnation: u64,
    /// Last allocated configuration sequence.
    pub config_seq: u64,
    /// Nodes with status active.
    pub nodes_active: u64,
    /// Join requests nobody decided yet.
    pub requests_pending: u64,
    /// Tokens that still admit.
    pub tokens_live: u64,
    /// Newest version with a head in the present incarnation.
    pub head_version: Option<u64>,
}

impl FromRow<'_, PgRow> for ClusterRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let IpNet::V4(ipv4_pool) = row.try_get::<IpNet, _>("ipv4_pool")? else {
            let source = "not an IPv4 network".into();
            return Err(sqlx::Error::ColumnDecode { index: "ipv4_pool".to_owned(), source });
        };
        Ok(Self {
            cluster: NewClusterRow {
                cluster: id(row, "cluster_id")?,
                name: row.try_get("name")?,
                incarnation: unsigned(row, "incarnation")?,
                ipv4_pool,
                dev: row.try_get("dev")?,
                fresh_for_ms: unsigned(row, "fresh_for_ms")?,
                refresh_every_ms: unsigned(row, "refresh_every_ms")?,
                degraded_for_ms: unsigned(row, "degraded_for_ms")?,
                leaf_lifetime_ms: unsigned(row, "leaf_lifetime_ms")?,
                sealed_map_key: row.try_get("sealed_map_key")?,
            },
            config_seq: unsigned(row, "config_seq")?,
            created_at: wall(row, "created_at")?,
        })
    }
}

impl FromRow<'_, PgRow> for ClusterSummary {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            cluster: id(row, "cluster_id")?,
            name: row.try_get("name")?,
            incarnation: unsigned(row, "incarnation")?,
            config_seq: unsigned(row, "config_seq")?,
            nodes_active: unsigned(row, "nodes_active")?,
            requests_pending: unsigned(row, "requests_pending")?,
            tokens_live: unsigned(row, "tokens_live")?,
            head_version: unsigned_option(row, "head_version")?,
        })
    }
}

macro_rules! cluster_select {
    ($rest:literal) => {
        concat!(
            "SELECT cluster_id, name, incarnation, config_seq, ipv4_pool, dev, fresh_for_ms, \
             refresh_every_ms, degraded_for_ms, leaf_lifetime_ms, sealed_map_key, created_at FROM clusters ",
            $rest
        )
    };
}

statements! {
    CLUSTER_INSERT = "INSERT INTO clusters (cluster_id, name, incarnation, ipv4_pool, dev, fresh_for_ms, \
        refresh_every_ms, degraded_for_ms, leaf_lifetime_ms, sealed_map_key) \
        VALUES ($1, $2, $3, $4::inet::cidr, $5, $6, $7, $8, $9, $10)";
    CLUSTER_READ = cluster_select!("WHERE cluster_id = $1");
    CLUSTER_LOCK = cluster_select!("WHERE cluster_id = $1 FOR UPDATE");
    CLUSTER_BY_NAME = cluster_select!("WHERE name = $1");
    CLUSTERS_LIST = cluster_select!("ORDER BY name LIMIT 10000");
    CLUSTER_SUMMARIES = "SELECT cluster_id, name, incarnation, config_seq, nodes_active, requests_pending, \
        tokens_live, head_version FROM cluster_admin_summaries ORDER BY name LIMIT 10000";
    CONFIG_SEQ_ALLOCATE = "UPDATE clusters SET config_seq = config_seq + 1 WHERE cluster_id = $1 \
        RETURNING config_seq";
    INCARNATION_RAISE = "UPDATE clusters SET incarnation = $2, row_version = row_version + 1 \
        WHERE cluster_id = $1 AND incarnation < $2";
    POLICY_UPSERT = "INSERT INTO cluster_policies (cluster_id, kind, body) VALUES ($1, $2, $3) \
        ON CONFLICT (cluster_id, kind) DO UPDATE SET body = excluded.body, \
            updated_at = clock_timestamp(), row_version = cluster_policies.row_version + 1";
    POLICIES_LIST = "SELECT kind, body FROM cluster_policies WHERE cluster_id = $1 ORDER BY kind";
}

/// Adds a cluster. Its name is unique ([`StoreError::Exists`], constraint `clusters_name`).
pub async fn cluster_insert(connection: &mut PgConnection, new: &NewClusterRow) -> Result<(), StoreError> {
    sqlx::query(CLUSTER_INSERT)
        .bind(new.cluster.uuid())
        .bind(&new.name)
        .bind(counter("incarnation", new.incarnation)?)
        .bind(IpNet::V4(new.ipv4_pool))
        .bind(new.dev)
        .bind(counter("fresh_for_ms", new.fresh_for_ms)?)
        .bind(counter("refresh_every_ms", new.refresh_every_ms)?)
        .bind(counter("degraded_for_ms", new.degraded_for_ms)?)
        .bind(counter("leaf_lifetime_ms", new.leaf_lifetime_ms)?)
        .bind(&new.sealed_map_key)
        .execute(connection)
        .await?;
    Ok(())
}

/// The cluster with this id.
pub async fn cluster_read(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<Option<ClusterRow>, StoreError> {
    Ok(sqlx::query_as(CLUSTER_READ).bind(cluster.uuid()).fetch_optional(connection).await?)
}

/// The cluster with this id, locked until the transaction ends. Take this lock before any other in a
/// transaction that changes configuration: it puts such transactions of one cluster in a row.
pub async fn cluster_lock(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<Option<ClusterRow>, StoreError> {
    Ok(sqlx::query_as(CLUSTER_LOCK).bind(cluster.uuid()).fetch_optional(connection).await?)
}

/// The cluster with this name.
pub async fn cluster_by_name(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<ClusterRow>, StoreError> {
    Ok(sqlx::query_as(CLUSTER_BY_NAME).bind(name).fetch_optional(connection).await?)
}

/// All clusters by name.
pub async fn clusters_list(connection: &mut PgConnection) -> Result<Vec<ClusterRow>, StoreError> {
    Ok(sqlx::query_as(CLUSTERS_LIST).fetch_all(connection).await?)
}

/// Numbers of every cluster, by name.
pub async fn cluster_summaries(connection: &mut PgConnection) -> Result<Vec<ClusterSummary>, StoreError> {
    Ok(sqlx::query_as(CLUSTER_SUMMARIES).fetch_all(connection).await?)
}

/// Takes the next configuration sequence, holding the cluster's row until the transaction ends, so
/// that sequences commit in order. Every change that planner input depends on needs one, together
/// with [`crate::outbox_append`].
pub async fn config_seq_allocate(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<u64, StoreError> {
    let row = sqlx::query(CONFIG_SEQ_ALLOCATE).bind(cluster.uuid()).fetch_one(connection).await?;
    Ok(unsigned(&row, "config_seq")?)
}

/// Starts a new life of the cluster. False unless `incarnation` is higher than the stored one.
pub async fn incarnation_raise(
    connection: &mut PgConnection,
    cluster: ClusterId,
    incarnation: u64,
) -> Result<bool, StoreError> {
    let incarnation = counter("incarnation", incarnation)?;
    let done = sqlx::query(INCARNATION_RAISE).bind(cluster.uuid()).bind(incarnation).execute(connection);
    Ok(done.await?.rows_affected() == 1)
}

/// Writes the policy of one kind, e.g. `dataplane`.
pub async fn policy_upsert(
    connection: &mut PgConnection,
    cluster: ClusterId,
    kind: &str,
    body: &serde_json::Value,
) -> Result<(), StoreError> {
    sqlx::query(POLICY_UPSERT).bind(cluster.uuid()).bind(kind).bind(body).execute(connection).await?;
    Ok(())
}

/// All policies of a cluster, by kind.
pub async fn policies_list(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<Vec<(String, serde_json::Value)>, StoreError> {
    Ok(sqlx::query_as(POLICIES_LIST).bind(cluster.uuid()).fetch_all(connection).await?)
}
