//! Wrapped data keys of clusters. They carry no MAC: opening one authenticates its cluster and version.

use rap_types::ClusterId;
use sqlx::PgConnection;

use crate::columns::{Bound as _, counter, plain_row, read, statements};
use crate::transaction::SystemTransaction;
use crate::{Result, StoreError};

/// A data key of a cluster.
#[derive(Debug, Clone)]
pub struct DekRow {
    /// Cluster.
    pub cluster: ClusterId,
    /// Version, from 1.
    pub key_version: u64,
    /// The key, wrapped by the key encryption key for (`cluster_deks`, `wrapped_dek`).
    pub wrapped_dek: Vec<u8>,
}

plain_row!(DekRow { cluster: cluster_id, key_version, wrapped_dek });

statements! {
    DEK_INSERT = "INSERT INTO cluster_deks (cluster_id, key_version, wrapped_dek) VALUES ($1, $2, $3)";
    DEKS_LIST = "SELECT cluster_id, key_version, wrapped_dek FROM cluster_deks \
        WHERE cluster_id = $1 AND retired_at IS NULL ORDER BY key_version";
    DEK_NEWEST_SHARE = "SELECT key_version, wrapped_dek FROM cluster_deks WHERE cluster_id = $1 AND retired_at IS NULL \
        ORDER BY key_version DESC LIMIT 1 FOR KEY SHARE";
    DEK_HOLD = "SELECT 1 AS held FROM cluster_deks WHERE cluster_id = $1 AND key_version = $2 FOR UPDATE";
    DEKS_DELETE = "DELETE FROM cluster_deks WHERE cluster_id = $1 AND key_version < $2";
}

/// Adds a data key.
///
/// # Errors
/// [`StoreError::Tampered`] if the database answers well and stores nothing: somebody sees to that.
pub async fn dek_insert(transaction: &mut SystemTransaction, new: &DekRow) -> Result<()> {
    transaction.effects.keys.insert(new.cluster);
    let done = sqlx::query_with(DEK_INSERT, new.arguments()?).execute(&mut **transaction).await?;
    if done.rows_affected() != 1 {
        let key = format!("{}/{}", new.cluster, new.key_version);
        return Err(StoreError::Tampered { table: "cluster_deks", key });
    }
    Ok(())
}

/// Data keys, oldest first; the last one seals. They carry no MAC: opening one authenticates its cluster
/// and version.
pub async fn deks_list(connection: &mut PgConnection, cluster: ClusterId) -> Result<Vec<DekRow>> {
    Ok(sqlx::query_as(DEKS_LIST).bind(cluster.uuid()).fetch_all(connection).await?)
}

/// The data key that seals, by version and wrapped form, kept from being retired until the transaction ends.
pub(crate) async fn dek_newest_share(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<Option<(u64, Vec<u8>)>> {
    let row = sqlx::query(DEK_NEWEST_SHARE).bind(cluster.uuid()).fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((read(&row, "key_version")?, read(&row, "wrapped_dek")?)))
}

/// Waits for whoever adds a row under this data key, and keeps others from it until the transaction
/// ends. False if there is no such key.
pub async fn dek_hold(connection: &mut PgConnection, cluster: ClusterId, key_version: u64) -> Result<bool> {
    let query = sqlx::query(DEK_HOLD).bind(cluster.uuid()).bind(counter("key_version", key_version)?);
    Ok(query.fetch_optional(connection).await?.is_some())
}

/// Removes every data key before this one: nothing is left under them. Whoever has to know that they are
/// gone reads them again: how many rows a database says it removed proves nothing.
pub async fn deks_delete_older(
    transaction: &mut SystemTransaction,
    cluster: ClusterId,
    key_version: u64,
) -> Result<()> {
    transaction.effects.keys.insert(cluster);
    let query = sqlx::query(DEKS_DELETE).bind(cluster.uuid()).bind(counter("key_version", key_version)?);
    query.execute(&mut **transaction).await?;
    Ok(())
}
