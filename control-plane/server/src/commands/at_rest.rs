//! The clusters of a database that is not served.

use rap_authority::{DataKeys, RowKeys};
use rap_store::{ClusterRow, PgConnection, bare_cluster_read, cluster_names, cluster_read};
use rap_types::Reason;

use crate::failure::Failure;
use crate::keys::data_keys::DataKeyOpener;

/// A cluster of a database that is not served.
pub(crate) struct ClusterAtRest {
    /// Data keys of the cluster.
    pub keys: DataKeys,
    /// Keys of the MACs of the cluster's rows.
    pub rows: RowKeys,
    /// Row of the cluster itself.
    pub row: ClusterRow,
}

/// Every cluster, for work on a database that is not served. Clusters that have no keys yet are not among
/// them.
pub(crate) async fn clusters_at_rest(
    connection: &mut PgConnection,
    keyring: &DataKeyOpener,
) -> Result<Vec<ClusterAtRest>, Failure> {
    let mut clusters = Vec::new();
    for (id, name) in cluster_names(connection).await? {
        let Some(keys) = keyring.find(connection, id).await? else {
            if bare_cluster_read(connection, id).await?.is_some() {
                continue;
            }
            return Err(Failure::new(Reason::SecretUnseal, format!("cluster {name} has no data key")));
        };
        let rows = keyring.rows(id, &keys);
        if let Some(row) = cluster_read(connection, &rows).await? {
            clusters.push(ClusterAtRest { keys, rows, row });
        }
    }
    Ok(clusters)
}
