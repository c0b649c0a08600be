//! Audits a diagnosis that an operator asked a node for.

use rap_store::SystemTransaction;
use rap_types::NodeId;
use rap_wire::v1;

use crate::acts::find_node::find_node;
use crate::database::change::{Acting, Change};
use crate::failure::Failure;

pub(crate) async fn write_diagnosis(
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &crate::serve::cluster::Cluster,
    request: &v1::AdminPingRequest,
) -> Result<(NodeId, NodeId), Failure> {
    let from = find_node(transaction, cluster, &request.from).await?.node.node;
    let to = find_node(transaction, cluster, &request.to).await?.node.node;
    let change = Change::of("node.diagnose", format!("node/{from}")).inside(cluster.id);
    change.because(format!("ping node/{to}")).record(transaction, acting).await?;
    Ok((from, to))
}
