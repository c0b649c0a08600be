//! Audits a diagnosis that an operator asked a node for.

use rap_store::SystemTransaction;
use rap_types::NodeId;

use crate::acts::find_node::find_node;
use crate::database::change::{Acting, Change};
use crate::failure::Failure;

/// What is asked of a node about another one.
pub(crate) struct Diagnosis<'a> {
    /// Name or id.
    pub(crate) from: &'a str,
    /// Name or id.
    pub(crate) to: &'a str,
    /// Words before the second node.
    pub(crate) what: &'static str,
}

pub(crate) async fn write_diagnosis(
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &crate::serve::cluster::Cluster,
    asked: &Diagnosis<'_>,
) -> Result<(NodeId, NodeId), Failure> {
    let from = find_node(transaction, cluster, asked.from).await?.node.node;
    let to = find_node(transaction, cluster, asked.to).await?.node.node;
    let change = Change::of("node.diagnose", format!("node/{from}")).inside(cluster.id);
    change.because(format!("{} node/{to}", asked.what)).record(transaction, acting).await?;
    Ok((from, to))
}
