//! Finds a node of a cluster by name or id.

use rap_runtime::output::bounded;
use rap_store::{NodeRow, PgConnection, node_by_name, node_read};
use rap_types::{NodeId, Reason};

use crate::failure::Failure;
use crate::serve::cluster::Cluster;

/// The present node with this name, or any with this id, in `cluster`.
///
/// # Errors
/// `node.unknown`.
pub(crate) async fn find_node(
    connection: &mut PgConnection,
    cluster: &Cluster,
    text: &str,
) -> Result<NodeRow, Failure> {
    let (row, unknown) = match text.parse::<NodeId>() {
        Ok(id) => (node_read(connection, &cluster.rows, id).await?, "no node of this cluster has this id"),
        Err(_) => (
            node_by_name(connection, &cluster.rows, text).await?,
            "no present node has this name; gone ones go by id",
        ),
    };
    row.ok_or_else(|| Failure::new(Reason::NodeUnknown, format!("`{}`: {unknown}", bounded(text, 64))))
}
