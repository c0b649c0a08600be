//! Host numbers: unique per cluster, not assigned again for seven days after they were released.

use rap_authority::RowKeys;
use rap_types::{ClusterId, NodeId, Wall};

use super::nodes::NewNodeRow;
use crate::authentic::{Held, held, insert, update};
use crate::counted::may_conflict_returned;
use crate::query::{database_now, found, statements};
use crate::row::{authentic_row, select};
use crate::transaction::SystemTransaction;
use crate::{Result, StoreError};

/// Who has a host number, or had it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressRow {
    /// Cluster.
    pub cluster: ClusterId,
    /// Number.
    pub host_number: u32,
    /// Node it was given to.
    pub node: NodeId,
    /// When it was given back.
    pub released_at: Option<Wall>,
}

authentic_row! {
    AddressRow { cluster: cluster_id, host_number, node: node_id, released_at } in "node_addresses";
    key cluster_id, host_number;
    node_id: Changes, released_at: Changes;
    sets "assigned_at = CASE WHEN node_id <> $4 THEN clock_timestamp() ELSE assigned_at END";
}

statements! {
    /// The next host number that nobody had, up to `last`.
    async fn host_number_next(cluster: ClusterId, last: u32) -> Option<u32> = may_conflict_returned
        "UPDATE clusters SET next_host_number = next_host_number + 1 \
        WHERE cluster_id = $1 AND next_host_number <= $2 RETURNING next_host_number - 1 AS host_number";
    /// Whether there is a host number up to `last` that nobody had.
    async fn host_numbers_left(cluster: ClusterId, last: u32) -> bool = found
        "SELECT 1 FROM clusters WHERE cluster_id = $1 AND next_host_number <= $2";
    /// The host number up to `last` that was given back longest ago, at least seven days, locked.
    async fn address_rested(keys, last: u32) -> Option<Held<AddressRow>> = held select!(AddressRow,
        "WHERE cluster_id = $1 AND host_number <= $2 \
             AND released_at < clock_timestamp() - interval '7 days' \
         ORDER BY released_at LIMIT 1 FOR UPDATE SKIP LOCKED"
    );
    /// Who has this host number, locked.
    pub(crate) async fn address_hold(keys, host_number: u32) -> Option<Held<AddressRow>> = held
        select!(AddressRow, "WHERE cluster_id = $1 AND host_number = $2 FOR UPDATE");
}

/// Gives `node` a host number between 1 and `last`: a new one as long as there are any, then the one
/// given back longest ago, at least seven days. `None` if the pool is exhausted.
pub async fn host_number_allocate(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    node: NodeId,
    last: u32,
) -> Result<Option<u32>> {
    if let Some(host_number) = host_number_next(transaction, keys.cluster(), last).await? {
        let new = AddressRow { cluster: keys.cluster(), host_number, node, released_at: None };
        insert(transaction, keys, &new).await?;
        return Ok(Some(host_number));
    }
    if host_numbers_left(transaction, keys.cluster(), last).await? {
        return Err(StoreError::Miscounted { table: "clusters", rows: 0 });
    }
    let Some(mut row) = address_rested(transaction, keys, last).await? else { return Ok(None) };
    let host_number = row.host_number;
    (row.node, row.released_at) = (node, None);
    update(transaction, keys, row).await?;
    Ok(Some(host_number))
}

/// Takes the number back that `node` gave back. False if somebody else has it by now.
pub async fn host_number_reclaim(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    node: NodeId,
    host_number: u32,
) -> Result<bool> {
    let row = address_hold(transaction, keys, host_number).await?;
    let Some(mut row) = row.filter(|row| row.node == node && row.released_at.is_some()) else {
        return Ok(false);
    };
    row.released_at = None;
    update(transaction, keys, row).await?;
    Ok(true)
}

/// Gives a node's host number back, if it still has it.
pub(super) async fn host_number_release(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    node: &NewNodeRow,
) -> Result<()> {
    let row = address_hold(transaction, keys, node.host_number).await?;
    let Some(mut row) = row.filter(|row| row.node == node.node && row.released_at.is_none()) else {
        return Ok(());
    };
    row.released_at = Some(database_now(transaction).await?);
    update(transaction, keys, row).await.map(drop)
}
