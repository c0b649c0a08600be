//! Audits a diagnosis that an operator asked a node for.

use rap_store::{PgConnection, audit_insert};
use rap_types::NodeId;
use rap_wire::v1;

use crate::acts::find_node::find_node;
use crate::auth::actor::Actor;
use crate::database::audit_row::audit_row;
use crate::failure::Failure;

pub(crate) async fn write_diagnosis(
    connection: &mut PgConnection,
    actor: &Actor,
    cluster: &crate::serve::cluster::Cluster,
    request: &v1::AdminPingRequest,
) -> Result<(NodeId, NodeId), Failure> {
    let from = find_node(connection, cluster, &request.from).await?.node.node;
    let to = find_node(connection, cluster, &request.to).await?.node.node;
    let object = format!("node/{from}");
    let reason = format!("ping node/{to}");
    let entry =
        audit_row(&actor.audit_name(), "node.diagnose", object, Some(cluster.id), None, &reason, actor.call);
    audit_insert(connection, &actor.pen, &entry).await?;
    Ok((from, to))
}
