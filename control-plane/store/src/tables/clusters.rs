//! Clusters and their policies.

use rap_authority::{Columns, RowKeys};
use rap_types::{ClusterId, Wall};
use sqlx::postgres::PgRow;
use sqlx::types::ipnet::{IpNet, Ipv4Net};
use sqlx::{FromRow, PgConnection, Row};

use crate::StoreError;
use crate::authentic::{Authentic, Held, all_verified, canonical_json, held, sealing, verified, written};
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

impl Authentic for ClusterRow {
    const TABLE: &'static str = "clusters";
    const KEY: &'static [&'static str] = &["cluster_id"];

    fn decode(row: &PgRow) -> sqlx::Result<Self> {
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

    fn key(&self) -> String {
        self.cluster.cluster.to_string()
    }

    fn columns(&self) -> Columns {
        covered(&self.cluster)
    }
}

fn covered(cluster: &NewClusterRow) -> Columns {
    Columns::new()
        .text(&cluster.name)
        .number(cluster.incarnation)
        .text(&cluster.ipv4_pool.to_string())
        .flag(cluster.dev)
        .number(cluster.fresh_for_ms)
        .number(cluster.refresh_every_ms)
        .number(cluster.degraded_for_ms)
        .number(cluster.leaf_lifetime_ms)
}

/// One kind of policy of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRow {
    /// Cluster.
    pub cluster: ClusterId,
    /// Kind, e.g. `dataplane`.
    pub kind: String,
    /// What it says.
    pub body: serde_json::Value,
}

impl PolicyRow {
    /// Kind and body.
    pub fn entry(&self) -> (&str, &serde_json::Value) {
        (&self.kind, &self.body)
    }
}

impl Authentic for PolicyRow {
    const TABLE: &'static str = "cluster_policies";
    const KEY: &'static [&'static str] = &["cluster_id", "kind"];

    fn decode(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { cluster: id(row, "cluster_id")?, kind: row.try_get("kind")?, body: row.try_get("body")? })
    }

    fn key(&self) -> String {
        format!("{}/{}", self.cluster, self.kind)
    }

    fn columns(&self) -> Columns {
        Columns::new().bytes(&canonical_json(&self.body))
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
             refresh_every_ms, degraded_for_ms, leaf_lifetime_ms, sealed_map_key, created_at, row_version, row_mac \
             FROM clusters ",
            $rest
        )
    };
}

macro_rules! policy_select {
    ($rest:literal) => {
        concat!("SELECT cluster_id, kind, body, row_version, row_mac FROM cluster_policies ", $rest)
    };
}

statements! {
    CLUSTER_INSERT = "INSERT INTO clusters (cluster_id, name, incarnation, ipv4_pool, dev, fresh_for_ms, \
        refresh_every_ms, degraded_for_ms, leaf_lifetime_ms, sealed_map_key, row_mac) \
        VALUES ($1, $2, $3, $4::inet::cidr, $5, $6, $7, $8, $9, $10, $11)";
    CLUSTER_READ = cluster_select!("WHERE cluster_id = $1");
    CLUSTER_LOCK = cluster_select!("WHERE cluster_id = $1 FOR UPDATE");
    CLUSTER_AFTER = cluster_select!("WHERE cluster_id = $1 AND (cluster_id::text) COLLATE \"C\" > $2");
    CLUSTER_NAMES = "SELECT cluster_id, name FROM clusters ORDER BY name LIMIT 10000";
    CLUSTER_SUMMARIES = "SELECT cluster_id, name, incarnation, config_seq, nodes_active, requests_pending, \
        tokens_live, head_version FROM cluster_admin_summaries ORDER BY name LIMIT 10000";
    CONFIG_SEQ_ALLOCATE = "UPDATE clusters SET config_seq = config_seq + 1 WHERE cluster_id = $1 \
        RETURNING config_seq";
    CLUSTER_WRITE = "UPDATE clusters SET incarnation = $3, fresh_for_ms = $4, refresh_every_ms = $5, \
        degraded_for_ms = $6, leaf_lifetime_ms = $7, sealed_map_key = $8, \
        row_version = row_version + 1, row_mac = $9 WHERE cluster_id = $1 AND row_version = $2";
    POLICY_INSERT = "INSERT INTO cluster_policies (cluster_id, kind, body, row_mac) VALUES ($1, $2, $3, $4)";
    POLICY_LOCK = policy_select!("WHERE cluster_id = $1 AND kind = $2 FOR UPDATE");
    POLICY_WRITE = "UPDATE cluster_policies SET body = $4, updated_at = clock_timestamp(), \
        row_version = row_version + 1, row_mac = $5 WHERE cluster_id = $1 AND kind = $2 AND row_version = $3";
    POLICIES_AFTER = policy_select!(
        "WHERE cluster_id = $1 AND (cluster_id::text || '/' || kind) COLLATE \"C\" > $2 \
         ORDER BY (cluster_id::text || '/' || kind) COLLATE \"C\" LIMIT 500"
    );
    POLICIES_LIST = policy_select!("WHERE cluster_id = $1 ORDER BY kind");
}

/// The MAC of a cluster's first version.
pub(super) fn mac_of_new(keys: &RowKeys, new: &NewClusterRow) -> [u8; 32] {
    keys.seal(ClusterRow::TABLE, &new.cluster.to_string(), 1, &covered(new))
}

/// Adds a cluster. Its name is unique ([`StoreError::Exists`], constraint `clusters_name`).
pub async fn cluster_insert(
    connection: &mut PgConnection,
    keys: &RowKeys,
    new: &NewClusterRow,
) -> Result<(), StoreError> {
    let row_mac = mac_of_new(keys, new);
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
        .bind(row_mac.as_slice())
        .execute(connection)
        .await?;
    Ok(())
}

/// The cluster of these keys.
pub async fn cluster_read(
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<Option<ClusterRow>, StoreError> {
    verified(
        sqlx::query_as(CLUSTER_READ).bind(keys.cluster().uuid()).fetch_optional(&mut *connection).await?,
        connection,
        keys,
    )
    .await
}

/// The cluster of these keys, locked until the transaction ends. Take this lock before any other in a
/// transaction that changes configuration: it puts such transactions of one cluster in a row.
pub async fn cluster_hold(
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<Option<Held<ClusterRow>>, StoreError> {
    held(
        sqlx::query_as(CLUSTER_LOCK).bind(keys.cluster().uuid()).fetch_optional(&mut *connection).await?,
        connection,
        keys,
    )
    .await
}

/// Writes what of a cluster may change: incarnation, timing, the sealed map key.
pub async fn cluster_write(
    connection: &mut PgConnection,
    keys: &RowKeys,
    row: Held<ClusterRow>,
) -> Result<(), StoreError> {
    let cluster = &row.cluster;
    let done = sqlx::query(CLUSTER_WRITE)
        .bind(cluster.cluster.uuid())
        .bind(row.stored_version()?)
        .bind(counter("incarnation", cluster.incarnation)?)
        .bind(counter("fresh_for_ms", cluster.fresh_for_ms)?)
        .bind(counter("refresh_every_ms", cluster.refresh_every_ms)?)
        .bind(counter("degraded_for_ms", cluster.degraded_for_ms)?)
        .bind(counter("leaf_lifetime_ms", cluster.leaf_lifetime_ms)?)
        .bind(&cluster.sealed_map_key)
        .bind(row.next_mac(keys))
        .execute(connection)
        .await?;
    written(done.rows_affected())
}

/// Ids and names of all clusters, by name, not verified: they say whose keys to load.
pub async fn cluster_names(connection: &mut PgConnection) -> Result<Vec<(ClusterId, String)>, StoreError> {
    let rows: Vec<(uuid::Uuid, String)> = sqlx::query_as(CLUSTER_NAMES).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(id, name)| (id.into(), name)).collect())
}

/// Numbers of every cluster, by name.
pub async fn cluster_summaries(connection: &mut PgConnection) -> Result<Vec<ClusterSummary>, StoreError> {
    Ok(sqlx::query_as(CLUSTER_SUMMARIES).fetch_all(connection).await?)
}

/// Takes the next configuration sequence, holding the cluster's row until the transaction ends, so
/// that sequences commit in order. Every change that planner input depends on needs one, together
/// with [`crate::outbox_append`]. The sequence is not under the row's MAC: signed heads are its floor.
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
    keys: &RowKeys,
    incarnation: u64,
) -> Result<bool, StoreError> {
    let Some(mut row) = cluster_hold(connection, keys).await? else { return Ok(false) };
    if row.cluster.incarnation >= incarnation {
        return Ok(false);
    }
    row.cluster.incarnation = incarnation;
    cluster_write(connection, keys, row).await?;
    Ok(true)
}

/// Writes the policy of one kind, e.g. `dataplane`.
pub async fn policy_upsert(
    connection: &mut PgConnection,
    keys: &RowKeys,
    kind: &str,
    body: &serde_json::Value,
) -> Result<(), StoreError> {
    let present = sqlx::query_as(POLICY_LOCK).bind(keys.cluster().uuid()).bind(kind);
    let Some(mut row) =
        held::<PolicyRow>(present.fetch_optional(&mut *connection).await?, connection, keys).await?
    else {
        return policy_insert(connection, keys, kind, body).await;
    };
    row.body = body.clone();
    let query = sqlx::query(POLICY_WRITE).bind(keys.cluster().uuid()).bind(kind).bind(row.stored_version()?);
    let done = query.bind(body).bind(row.next_mac(keys)).execute(connection).await?;
    written(done.rows_affected())
}

/// Writes the policy of a kind that has none. Fails if there is one.
pub async fn policy_insert(
    connection: &mut PgConnection,
    keys: &RowKeys,
    kind: &str,
    body: &serde_json::Value,
) -> Result<(), StoreError> {
    sealing(connection, keys).await?;
    let new = PolicyRow { cluster: keys.cluster(), kind: kind.to_owned(), body: body.clone() };
    let query = sqlx::query(POLICY_INSERT).bind(keys.cluster().uuid()).bind(kind).bind(body);
    query.bind(new.mac(keys, 1)).execute(connection).await?;
    Ok(())
}

/// All policies of a cluster, by kind.
pub async fn policies_list(
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<Vec<PolicyRow>, StoreError> {
    all_verified(
        sqlx::query_as(POLICIES_LIST).bind(keys.cluster().uuid()).fetch_all(&mut *connection).await?,
        connection,
        keys,
    )
    .await
}
