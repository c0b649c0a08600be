//! Cluster rows that have no keys yet: no MAC, no map key, no data key.
//!
//! Owns reading them, unverified, and the one statement that writes the keys of such a row. Refuses to own the
//! decision whether to do that: see `docs/adr/0014-bare-clusters.md`.

use std::fmt;

use rap_authority::RowKeys;
use rap_types::{ClusterId, Wall};
use sqlx::postgres::PgRow;
use sqlx::types::ipnet::IpNet;
use sqlx::{PgConnection, Row as _};

use super::clusters::NewClusterRow;
use crate::Result;
use crate::authentic::Authentic as _;
use crate::columns::read;
use crate::counted::one_row;
use crate::query::{Readable, all, optional, plain_row, statements};

/// What such a row says. Nothing vouches for any of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BareClusterRow {
    /// Id.
    pub cluster: ClusterId,
    /// Name.
    pub name: String,
    /// IPv4 overlay pool, as text.
    pub ipv4_pool: String,
    /// Of a development installation.
    pub dev: bool,
    /// How long a head is fresh, milliseconds.
    pub fresh_for_ms: u64,
    /// How often an idle head is signed again, milliseconds.
    pub refresh_every_ms: u64,
    /// How long a node works on past that, milliseconds.
    pub degraded_for_ms: u64,
    /// Life of a node certificate, milliseconds.
    pub leaf_lifetime_ms: u64,
    /// When it was created.
    pub created_at: Wall,
}

impl Readable for BareClusterRow {
    fn of_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            cluster: read(row, "cluster_id")?,
            name: read(row, "name")?,
            ipv4_pool: row.try_get::<IpNet, _>("ipv4_pool")?.to_string(),
            dev: read(row, "dev")?,
            fresh_for_ms: read(row, "fresh_for_ms")?,
            refresh_every_ms: read(row, "refresh_every_ms")?,
            degraded_for_ms: read(row, "degraded_for_ms")?,
            leaf_lifetime_ms: read(row, "leaf_lifetime_ms")?,
            created_at: read(row, "created_at")?,
        })
    }
}

/// Rows of one table that belong to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsInCluster {
    /// Table.
    pub table: String,
    /// How many.
    pub rows: u64,
}

plain_row!(RowsInCluster { table, rows });

impl fmt::Display for RowsInCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.table, self.rows)
    }
}

macro_rules! bare_select {
    ($rest:literal) => {
        concat!(
            "SELECT cluster_id, name, ipv4_pool, dev, fresh_for_ms, refresh_every_ms, degraded_for_ms, \
             leaf_lifetime_ms, created_at FROM clusters c WHERE row_mac IS NULL AND sealed_map_key IS NULL \
             AND NOT EXISTS (SELECT FROM cluster_deks d WHERE d.cluster_id = c.cluster_id) ",
            $rest
        )
    };
}

/// One table's line of [`rows_in_cluster`].
macro_rules! rows_in {
    ($first:literal $(, $table:literal)*) => {
        concat!(
            "SELECT \"table\", rows FROM (SELECT '", $first, "' AS \"table\", count(*) AS rows FROM ", $first,
            " WHERE cluster_id = $1",
            $(" UNION ALL SELECT '", $table, "', count(*) FROM ", $table, " WHERE cluster_id = $1",)*
            " UNION ALL SELECT 'audit_log', count(*) FROM audit_log WHERE cluster_id = $1 \
              AND action IN ('cluster.create', 'cluster.backfill')) found WHERE rows > 0 ORDER BY \"table\""
        )
    };
}

statements! {
    /// Every cluster without keys, by name.
    pub async fn bare_clusters() -> Vec<BareClusterRow> = all bare_select!("ORDER BY name LIMIT 10000");
    /// One of them; `None` if there is no such cluster or it has keys.
    pub async fn bare_cluster_read(cluster: ClusterId) -> Option<BareClusterRow> = optional
        bare_select!("AND cluster_id = $1");
    /// The same, locked until the transaction ends.
    pub async fn bare_cluster_hold(cluster: ClusterId) -> Option<BareClusterRow> = optional
        bare_select!("AND cluster_id = $1 FOR UPDATE");
    /// What belongs to a cluster, by table; entries of the audit log count if they say that it was made here.
    pub async fn rows_in_cluster(cluster: ClusterId) -> Vec<RowsInCluster> = all rows_in!(
        "break_glass_uses", "cluster_authorities", "cluster_authority_prepared", "cluster_cas", "cluster_deks",
        "cluster_heads", "cluster_policies", "config_outbox", "join_requests", "join_tokens", "mesh_latest_links",
        "node_addresses", "node_leaves", "node_revocations", "nodes", "route_path_decisions"
    );
    /// Writes the keys of a row that has none.
    async fn keys_write(cluster: ClusterId, incarnation: u64, sealed_map_key: &[u8], row_mac: &[u8]) -> () = one_row
        "UPDATE clusters SET incarnation = $2, config_seq = 0, next_host_number = 1, \
        sealed_map_key = $3, row_version = 1, row_mac = $4 \
        WHERE cluster_id = $1 AND row_mac IS NULL AND sealed_map_key IS NULL";
}

/// Gives a held row its keys. What the caller checked is sealed, never what the row says by then; what no
/// operator types begins as in a new cluster.
pub async fn cluster_adopt(
    connection: &mut PgConnection,
    keys: &RowKeys,
    checked: &NewClusterRow,
) -> Result<()> {
    let row_mac = checked.first().mac(keys, 1);
    let (cluster, sealed_map_key) = (checked.cluster, &checked.sealed_map_key);
    keys_write(connection, cluster, checked.incarnation, sealed_map_key, &row_mac).await
}
