//! Host numbers: unique per cluster, not given out again for seven days.

use rap_types::{ClusterId, NodeId};
use sqlx::PgConnection;

use crate::StoreError;
use crate::columns::{counter, statements, unsigned};

statements! {
    HOST_NUMBER_NEXT = "UPDATE clusters SET next_host_number = next_host_number + 1 \
        WHERE cluster_id = $1 AND next_host_number <= $2 RETURNING next_host_number - 1 AS host_number";
    HOST_NUMBER_INSERT = "INSERT INTO node_addresses (cluster_id, host_number, node_id) VALUES ($1, $2, $3)";
    HOST_NUMBER_REUSE = "UPDATE node_addresses SET node_id = $3, assigned_at = clock_timestamp(), \
            released_at = NULL, row_version = row_version + 1 \
        WHERE cluster_id = $1 AND host_number = (SELECT host_number FROM node_addresses \
            WHERE cluster_id = $1 AND host_number <= $2 \
                AND released_at < clock_timestamp() - interval '7 days' \
            ORDER BY released_at LIMIT 1 FOR UPDATE SKIP LOCKED) \
        RETURNING host_number";
    HOST_NUMBER_RECLAIM = "UPDATE node_addresses SET released_at = NULL, row_version = row_version + 1 \
        WHERE cluster_id = $1 AND host_number = $2 AND node_id = $3 AND released_at IS NOT NULL";
}

/// Takes the number back that `node` gave back. False if somebody else has it by now.
pub async fn host_number_reclaim(
    connection: &mut PgConnection,
    cluster: ClusterId,
    node: NodeId,
    host_number: u32,
) -> Result<bool, StoreError> {
    let query = sqlx::query(HOST_NUMBER_RECLAIM).bind(cluster.uuid()).bind(i64::from(host_number));
    Ok(query.bind(node.uuid()).execute(connection).await?.rows_affected() == 1)
}

/// Gives `node` a host number between 1 and `last`: a new one as long as there are any, then the one
/// given back longest ago, at least seven days. `None` if the pool is exhausted.
pub async fn host_number_allocate(
    connection: &mut PgConnection,
    cluster: ClusterId,
    node: NodeId,
    last: u32,
) -> Result<Option<u32>, StoreError> {
    let last = counter("host_number", last.into())?;
    let fresh = sqlx::query(HOST_NUMBER_NEXT).bind(cluster.uuid()).bind(last);
    if let Some(row) = fresh.fetch_optional(&mut *connection).await? {
        let number: u32 = unsigned(&row, "host_number")?;
        sqlx::query(HOST_NUMBER_INSERT)
            .bind(cluster.uuid())
            .bind(i64::from(number))
            .bind(node.uuid())
            .execute(connection)
            .await?;
        return Ok(Some(number));
    }
    let reused = sqlx::query(HOST_NUMBER_REUSE).bind(cluster.uuid()).bind(last).bind(node.uuid());
    let row = reused.fetch_optional(connection).await?;
    Ok(row.map(|row| unsigned(&row, "host_number")).transpose()?)
}
