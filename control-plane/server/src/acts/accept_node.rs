//! Accepts a node whose identity is doubted, with the state that it has.

use rap_store::{NodeRow, SystemTransaction, identity_accept, identity_hold};
use rap_types::Reason;

use crate::acts::find_node::find_node;
use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::serve::cluster::Cluster;

/// Ends the doubt about the node with this name or id.
///
/// # Errors
/// `node.unknown`; `resource.not_found` if nothing is doubted.
pub(crate) async fn write_acceptance(
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    name: &str,
) -> Result<NodeRow, Failure> {
    let row = find_node(transaction, cluster, name).await?;
    let node = row.node.node;
    let doubt = identity_hold(transaction, node).await?.map(|known| known.doubt).unwrap_or_default();
    if doubt.is_empty() {
        return Err(Failure::new(
            Reason::ResourceNotFound,
            "nothing about the identity of this node is doubted",
        ));
    }
    identity_accept(transaction, node).await?;
    let change = Change::of("node.accept", format!("node/{node}")).inside(cluster.id);
    change.owned_by(row.node.organization).because(doubt).record(transaction, acting).await?;
    Ok(row)
}
