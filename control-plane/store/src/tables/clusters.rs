//! Clusters and their policies.

use rap_authority::RowKeys;
use rap_types::{ClusterId, Wall};
use sqlx::types::ipnet::Ipv4Net;

use crate::Result;
use crate::authentic::{
    Authentic as _, Held, Written, all_verified, held, insert, new_row, update, verified,
};
use crate::counted::{one_row, one_row_returned};
use crate::query::{Bound, all, plain_row, statements};
use crate::row::{authentic_row, select};
use crate::transaction::SystemTransaction;

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

impl NewClusterRow {
    /// The row at its first version.
    pub(super) fn first(&self) -> ClusterRow {
        ClusterRow { cluster: self.clone(), config_seq: 0, created_at: Wall(0) }
    }
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

authentic_row! {
    ClusterRow {
        cluster: NewClusterRow {
            cluster: cluster_id, name, incarnation, ipv4_pool, dev, fresh_for_ms, refresh_every_ms,
            degraded_for_ms, leaf_lifetime_ms, sealed_map_key,
        },
        config_seq, created_at,
    }
    in "clusters";
    key cluster_id;
    name: Fixed, incarnation: Changes, ipv4_pool: Fixed, dev: Fixed, fresh_for_ms: Changes,
    refresh_every_ms: Changes, degraded_for_ms: Changes, leaf_lifetime_ms: Changes,
    sealed_map_key: Encrypted, config_seq: Shown, created_at: Shown;
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

authentic_row! {
    PolicyRow { cluster: cluster_id, kind, body } in "cluster_policies";
    key cluster_id, kind;
    body: Changes;
    sets "updated_at = clock_timestamp()";
}

plain_row!(ClusterSummary {
    cluster: cluster_id,
    name,
    incarnation,
    config_seq,
    nodes_active,
    requests_pending,
    tokens_live,
    head_version,
});

statements! {
    /// The cluster of these keys.
    pub async fn cluster_read(keys) -> Option<ClusterRow> = verified select!(ClusterRow, "WHERE cluster_id = $1");
    /// The cluster of these keys, locked until the transaction ends. Take this lock before any other in a
    /// transaction that changes configuration: it puts such transactions of one cluster in a row.
    pub async fn cluster_hold(keys) -> Option<Held<ClusterRow>> = held
        select!(ClusterRow, "WHERE cluster_id = $1 FOR UPDATE");
    /// As [`cluster_hold`], except that others may add rows that name the cluster meanwhile, heads and audit entries
    /// among them: joins come by the hundred, and each version is for those before.
    pub async fn cluster_turn(keys) -> Option<ClusterRow> = verified
        select!(ClusterRow, "WHERE cluster_id = $1 FOR NO KEY UPDATE");
    /// Writes what of a cluster may change: incarnation, timing, the sealed map key.
    pub async fn cluster_write(keys, row: Held<ClusterRow>) = update;
    /// Ids and names of all clusters, by name, not verified: they say whose keys to load.
    pub async fn cluster_names() -> Vec<(ClusterId, String)> = all
        "SELECT cluster_id, name FROM clusters ORDER BY name LIMIT 10000";
    /// Numbers of every cluster, by name.
    pub async fn cluster_summaries() -> Vec<ClusterSummary> = all
        "SELECT cluster_id, name, incarnation, config_seq, nodes_active, requests_pending, \
        tokens_live, head_version FROM cluster_admin_summaries ORDER BY name LIMIT 10000";
    /// The next configuration sequence.
    async fn next_config_seq(cluster: ClusterId) -> u64 = one_row_returned
        "UPDATE clusters SET config_seq = config_seq + 1 WHERE cluster_id = $1 RETURNING config_seq";
    /// All policies of a cluster, by kind.
    pub async fn policies_list(keys) -> Vec<PolicyRow> = all_verified PolicyRow::ALL;
    /// The policy of one kind, locked.
    async fn policy_hold(keys, kind: &str) -> Option<Held<PolicyRow>> = held
        select!(PolicyRow, "WHERE cluster_id = $1 AND kind = $2 FOR UPDATE");
}

/// Adds a cluster. Its name is unique ([`StoreError::Exists`], constraint `clusters_name`).
pub async fn cluster_insert(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    new: &NewClusterRow,
) -> Result<()> {
    // Its data keys come after it: there is none to share yet.
    let arguments = new_row(&new.first(), keys)?;
    one_row(Bound::of(ClusterRow::INSERT, arguments), transaction).await?;
    transaction.expect(Written::of(&new.first(), 1, keys)?);
    Ok(())
}

/// Takes the next configuration sequence, holding the cluster's row until the transaction ends, so
/// that sequences commit in order. Every change that planner input depends on needs one, together
/// with [`crate::outbox_append`]. The sequence is not under the row's MAC: signed heads are its floor.
pub async fn config_seq_allocate(transaction: &mut SystemTransaction, cluster: ClusterId) -> Result<u64> {
    next_config_seq(transaction, cluster).await
}

/// Starts a new life of the cluster. False unless `incarnation` is higher than the stored one.
pub async fn incarnation_raise(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    incarnation: u64,
) -> Result<bool> {
    let Some(mut row) = cluster_hold(transaction, keys).await? else { return Ok(false) };
    if row.cluster.incarnation >= incarnation {
        return Ok(false);
    }
    row.cluster.incarnation = incarnation;
    cluster_write(transaction, keys, row).await?;
    Ok(true)
}

/// Writes the policy of one kind, e.g. `dataplane`.
pub async fn policy_upsert(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    kind: &str,
    body: &serde_json::Value,
) -> Result<()> {
    let Some(mut row) = policy_hold(transaction, keys, kind).await? else {
        let new = PolicyRow { cluster: keys.cluster(), kind: kind.to_owned(), body: body.clone() };
        return insert(transaction, keys, &new).await;
    };
    row.body = body.clone();
    update(transaction, keys, row).await.map(drop)
}
