//! The outbox: which scopes each configuration sequence touched. A replica reads it after each notification and at every poll.

use std::collections::BTreeSet;

use rap_types::{ClusterId, NodeId, Wall};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use crate::StoreError;
use crate::columns::read;
use crate::counted::{may_conflict, one_row};
use crate::query::{Readable, all, one, plain_row, statements};
use crate::transaction::SystemTransaction;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Cluster.
    pub cluster: ClusterId,
    /// Sequence, from 1, without gaps in commit order.
    pub seq: u64,
    /// Scope keys it touched: `peer/<node id>`, `assignment/<node id>`, `policy`, `trust`.
    pub touched: Vec<String>,
    /// Revocation, fencing, disable: passes every debounce.
    pub urgent: bool,
    /// When it was made.
    pub created_at: Wall,
}

/// Where a cluster is: what a poll compares with what was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPosition {
    /// Cluster.
    pub cluster: ClusterId,
    /// Its name, not verified.
    pub name: String,
    /// Present incarnation.
    pub incarnation: u64,
    /// Last allocated sequence.
    pub config_seq: u64,
    /// Changes whenever a key of the cluster does.
    pub keys: u64,
}

plain_row!(OutboxRow { cluster: cluster_id, seq, touched, urgent, created_at });

impl Readable for ClusterPosition {
    fn of_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            cluster: read(row, "cluster_id")?,
            // A column that does not read is of a row that somebody altered: whoever loads the cluster
            // finds it, and the other clusters' positions are whole.
            name: read(row, "name").unwrap_or_default(),
            incarnation: read(row, "incarnation").unwrap_or_default(),
            config_seq: read(row, "config_seq").unwrap_or_default(),
            keys: read(row, "keys").unwrap_or_default(),
        })
    }
}

statements! {
    /// Adds the change `seq`.
    async fn append(cluster: ClusterId, seq: u64, touched: &[String], urgent: bool) -> () = one_row
        "INSERT INTO config_outbox (cluster_id, seq, touched, urgent) VALUES ($1, $2, $3, $4)";
    /// Changes after `seq`, oldest first, at most `limit`. Pruned ones are missing: a first row above
    /// `seq + 1` means "everything may have changed".
    pub async fn outbox_after(cluster: ClusterId, seq: u64, limit: u32) -> Vec<OutboxRow> = all
        "SELECT cluster_id, seq, touched, urgent, created_at FROM config_outbox \
        WHERE cluster_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
    /// Where every cluster is: one cheap poll for all of them. Of numbers that nobody planted the remainder is the
    /// number itself.
    pub async fn outbox_positions() -> Vec<ClusterPosition> = all
        "SELECT c.cluster_id, c.name, c.incarnation, c.config_seq, \
            abs(mod((SELECT coalesce(sum(a.row_version), 0) FROM cluster_authorities a \
                WHERE a.cluster_id = c.cluster_id) + \
             (SELECT coalesce(sum(a.row_version), 0) FROM cluster_cas a WHERE a.cluster_id = c.cluster_id) + \
             (SELECT coalesce(2 * max(d.key_version)::numeric - count(*), 0) FROM cluster_deks d \
                WHERE d.cluster_id = c.cluster_id), 9223372036854775808))::bigint AS keys \
        FROM clusters c ORDER BY c.cluster_id";
    /// What [`ClusterPosition::keys`] is of one cluster. Rises with every change: authorities and CAs only gain versions, and
    /// of data keys a newer one is added before the older one is removed.
    pub async fn keys_stamp(cluster: ClusterId) -> u64 = one
        "SELECT abs(mod((SELECT coalesce(sum(row_version), 0) FROM cluster_authorities WHERE cluster_id = $1) \
        + (SELECT coalesce(sum(row_version), 0) FROM cluster_cas WHERE cluster_id = $1) \
        + (SELECT coalesce(2 * max(key_version)::numeric - count(*), 0) FROM cluster_deks WHERE cluster_id = $1), \
        9223372036854775808))::bigint AS keys";
    /// Whether a change after `seq` is urgent.
    pub async fn outbox_urgent(cluster: ClusterId, seq: u64) -> bool = one
        "SELECT EXISTS (SELECT 1 FROM config_outbox WHERE cluster_id = $1 AND seq > $2 AND urgent)";
    /// Removes changes up to `seq` that are older than a day; returns how many.
    pub async fn outbox_prune(cluster: ClusterId, seq: u64) -> u64 = may_conflict "DELETE FROM config_outbox \
        WHERE cluster_id = $1 AND seq <= $2 AND created_at < clock_timestamp() - interval '1 day'";
}

/// Adds the change `seq` from [`crate::config_seq_allocate`], in the same transaction.
pub async fn outbox_append(
    transaction: &mut SystemTransaction,
    cluster: ClusterId,
    seq: u64,
    touched: &[String],
    urgent: bool,
) -> Result<(), StoreError> {
    append(transaction, cluster, seq, touched, urgent).await?;
    *transaction.effects.touched.entry(cluster).or_default() |= urgent;
    Ok(())
}

/// The nodes that the changes after `seq` up to `last` touched; `None` if the outbox does not say so of each of
/// them: pruned, too many, or a scope key that this release does not know.
pub(crate) async fn nodes_touched(
    connection: &mut PgConnection,
    cluster: ClusterId,
    seq: u64,
    last: u64,
) -> Result<Option<Vec<NodeId>>, StoreError> {
    let changes = outbox_after(connection, cluster, seq, TOUCHED_MOST).await?;
    let whole = (seq + 1..=last).eq(changes.iter().map(|change| change.seq));
    let mut nodes = BTreeSet::new();
    for key in changes.iter().flat_map(|change| &change.touched) {
        let node = match key.split_once('/') {
            Some(("peer" | "assignment", node)) => node.parse::<NodeId>().ok(),
            None if matches!(key.as_str(), "trust" | "policy") => continue,
            Some(_) | None => None,
        };
        let Some(node) = node else { return Ok(None) };
        nodes.insert(node);
    }
    Ok(whole.then(|| nodes.into_iter().collect()))
}

/// More changes at once are read as a whole.
const TOUCHED_MOST: u32 = 1_000;
