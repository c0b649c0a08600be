//! Host numbers: unique per cluster, not given out again for seven days.

use rap_authority::{Columns, RowKeys};
use rap_types::{ClusterId, NodeId, Wall};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::nodes::NewNodeRow;
use crate::StoreError;
use crate::authentic::{Authentic, Held, held, sealing, written};
use crate::columns::{counter, database_now, id, statements, timestamp, unsigned, wall_option};

/// Who has a host number, or had it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRow {
    /// Cluster.
    pub cluster: ClusterId,
    /// Number.
    pub host_number: u32,
    /// Node it was given to.
    pub node: NodeId,
    /// When it was given back.
    pub released_at: Option<Wall>,
}

impl Authentic for AddressRow {
    const TABLE: &'static str = "node_addresses";
    const KEY: &'static [&'static str] = &["cluster_id", "host_number"];

    fn decode(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            cluster: id(row, "cluster_id")?,
            host_number: unsigned(row, "host_number")?,
            node: id(row, "node_id")?,
            released_at: wall_option(row, "released_at")?,
        })
    }

    fn key(&self) -> String {
        format!("{}/{}", self.cluster, self.host_number)
    }

    fn columns(&self) -> Columns {
        Columns::new().bytes(self.node.as_bytes()).instant(self.released_at)
    }
}

macro_rules! address_select {
    ($rest:literal) => {
        concat!(
            "SELECT cluster_id, host_number, node_id, released_at, row_version, row_mac FROM node_addresses ",
            $rest
        )
    };
}

statements! {
    HOST_NUMBER_NEXT = "UPDATE clusters SET next_host_number = next_host_number + 1 \
        WHERE cluster_id = $1 AND next_host_number <= $2 RETURNING next_host_number - 1 AS host_number";
    ADDRESS_INSERT = "INSERT INTO node_addresses (cluster_id, host_number, node_id, row_mac) \
        VALUES ($1, $2, $3, $4)";
    ADDRESS_RESTED = address_select!(
        "WHERE cluster_id = $1 AND host_number <= $2 \
             AND released_at < clock_timestamp() - interval '7 days' \
         ORDER BY released_at LIMIT 1 FOR UPDATE SKIP LOCKED"
    );
    ADDRESS_LOCK = address_select!("WHERE cluster_id = $1 AND host_number = $2 FOR UPDATE");
    ADDRESSES_ALL = address_select!("WHERE cluster_id = $1 ORDER BY host_number");
    ADDRESSES_AFTER = address_select!(
        "WHERE cluster_id = $1 AND (cluster_id::text || '/' || host_number::text) COLLATE \"C\" > $2 \
         ORDER BY (cluster_id::text || '/' || host_number::text) COLLATE \"C\" LIMIT 500"
    );
    ADDRESS_WRITE = "UPDATE node_addresses SET node_id = $4, released_at = $5, \
        assigned_at = CASE WHEN node_id <> $4 THEN clock_timestamp() ELSE assigned_at END, \
        row_version = row_version + 1, row_mac = $6 \
        WHERE cluster_id = $1 AND host_number = $2 AND row_version = $3";
}

/// Gives `node` a host number between 1 and `last`: a new one as long as there are any, then the one
/// given back longest ago, at least seven days. `None` if the pool is exhausted.
pub async fn host_number_allocate(
    connection: &mut PgConnection,
    keys: &RowKeys,
    node: NodeId,
    last: u32,
) -> Result<Option<u32>, StoreError> {
    let last = counter("host_number", last.into())?;
    let fresh = sqlx::query(HOST_NUMBER_NEXT).bind(keys.cluster().uuid()).bind(last);
    if let Some(row) = fresh.fetch_optional(&mut *connection).await? {
        let host_number: u32 = unsigned(&row, "host_number")?;
        sealing(connection, keys).await?;
        let new = AddressRow { cluster: keys.cluster(), host_number, node, released_at: None };
        sqlx::query(ADDRESS_INSERT)
            .bind(keys.cluster().uuid())
            .bind(i64::from(host_number))
            .bind(node.uuid())
            .bind(new.mac(keys, 1))
            .execute(connection)
            .await?;
        return Ok(Some(host_number));
    }
    let rested = sqlx::query_as(ADDRESS_RESTED).bind(keys.cluster().uuid()).bind(last);
    let Some(mut row) =
        held::<AddressRow>(rested.fetch_optional(&mut *connection).await?, connection, keys).await?
    else {
        return Ok(None);
    };
    let host_number = row.host_number;
    (row.node, row.released_at) = (node, None);
    address_write(connection, keys, row).await?;
    Ok(Some(host_number))
}

/// Takes the number back that `node` gave back. False if somebody else has it by now.
pub async fn host_number_reclaim(
    connection: &mut PgConnection,
    keys: &RowKeys,
    node: NodeId,
    host_number: u32,
) -> Result<bool, StoreError> {
    let row = address_hold(connection, keys, host_number).await?;
    let Some(mut row) = row.filter(|row| row.node == node && row.released_at.is_some()) else {
        return Ok(false);
    };
    row.released_at = None;
    address_write(connection, keys, row).await?;
    Ok(true)
}

/// Who has this host number, locked.
pub async fn address_hold(
    connection: &mut PgConnection,
    keys: &RowKeys,
    host_number: u32,
) -> Result<Option<Held<AddressRow>>, StoreError> {
    let query = sqlx::query_as(ADDRESS_LOCK).bind(keys.cluster().uuid()).bind(i64::from(host_number));
    held(query.fetch_optional(&mut *connection).await?, connection, keys).await
}

/// Writes who has a host number.
pub async fn address_write(
    connection: &mut PgConnection,
    keys: &RowKeys,
    row: Held<AddressRow>,
) -> Result<(), StoreError> {
    let released_at = row.released_at.map(|at| timestamp("released_at", at)).transpose()?;
    let done = sqlx::query(ADDRESS_WRITE)
        .bind(row.cluster.uuid())
        .bind(i64::from(row.host_number))
        .bind(row.stored_version()?)
        .bind(row.node.uuid())
        .bind(released_at)
        .bind(row.next_mac(keys))
        .execute(connection)
        .await?;
    written(done.rows_affected())
}

/// Gives a node's host number back, if it still has it.
pub(super) async fn host_number_release(
    connection: &mut PgConnection,
    keys: &RowKeys,
    node: &NewNodeRow,
) -> Result<(), StoreError> {
    let row = address_hold(connection, keys, node.host_number).await?;
    let Some(mut row) = row.filter(|row| row.node == node.node && row.released_at.is_none()) else {
        return Ok(());
    };
    row.released_at = Some(database_now(connection).await?);
    address_write(connection, keys, row).await
}
