//! Wrapped data keys of clusters. They carry no MAC: opening one authenticates its cluster and version.

use rap_types::ClusterId;

use crate::Result;
use crate::counted::{may_conflict, one_row};
use crate::query::{all, found, optional, plain_row, statements};
use crate::transaction::SystemTransaction;

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
    async fn dek_added(new: &DekRow) -> () = one_row
        "INSERT INTO cluster_deks (cluster_id, key_version, wrapped_dek) VALUES ($1, $2, $3)";
    /// Data keys, oldest first; the last one seals. They carry no MAC: opening one authenticates its cluster
    /// and version.
    pub async fn deks_list(cluster: ClusterId) -> Vec<DekRow> = all
        "SELECT cluster_id, key_version, wrapped_dek FROM cluster_deks \
        WHERE cluster_id = $1 AND retired_at IS NULL ORDER BY key_version";
    /// The data key that seals, by version and wrapped form, kept from being retired until the transaction ends.
    pub(crate) async fn dek_newest_share(cluster: ClusterId) -> Option<(u64, Vec<u8>)> = optional
        "SELECT key_version, wrapped_dek FROM cluster_deks WHERE cluster_id = $1 AND retired_at IS NULL \
        ORDER BY key_version DESC LIMIT 1 FOR KEY SHARE";
    /// Waits for whoever adds a row under this data key, and keeps others from it until the transaction
    /// ends. False if there is no such key.
    pub async fn dek_hold(cluster: ClusterId, key_version: u64) -> bool = found
        "SELECT 1 AS held FROM cluster_deks WHERE cluster_id = $1 AND key_version = $2 FOR UPDATE";
    /// Removes every data key before this one.
    async fn older_delete(cluster: ClusterId, key_version: u64) -> () = may_conflict
        "DELETE FROM cluster_deks WHERE cluster_id = $1 AND key_version < $2";
}

/// Adds a data key.
pub async fn dek_insert(transaction: &mut SystemTransaction, new: &DekRow) -> Result<()> {
    transaction.effects.keys.insert(new.cluster);
    dek_added(transaction, new).await
}

/// Removes every data key before this one: nothing is left under them. Whoever has to know that they are
/// gone reads them again: how many rows a database says it removed proves nothing.
pub async fn deks_delete_older(
    transaction: &mut SystemTransaction,
    cluster: ClusterId,
    key_version: u64,
) -> Result<()> {
    transaction.effects.keys.insert(cluster);
    older_delete(transaction, cluster, key_version).await
}
