//! The CAs of a cluster, and which nodes follow their rotation.

use rap_authority::{CaStage, RowKeys};
use rap_store::{PgConnection, cluster_cas_trusted};
use rap_wire::v1;

use crate::failure::Failure;
use crate::serve::cluster::Cluster;
use crate::serve::cluster_cas::members;

/// Everything, for the operator who rotates it.
pub(crate) async fn view(
    connection: &mut PgConnection,
    cluster: &Cluster,
) -> Result<v1::ClusterCaAnswer, Failure> {
    let keys: &RowKeys = &cluster.rows;
    let rows = cluster_cas_trusted(connection, keys).await?;
    let nodes = members(connection, keys).await?.into_iter().map(|row| {
        let known = cluster.cas.follower(&row);
        v1::ClusterCaNode {
            node_id: row.node.node.to_vec(),
            missing: cluster.cas.waits_for(&row),
            trusts: known.trusts,
            certificate_ca: known.certificate_ca,
            last_seen_at_ms: row.contact.as_ref().map_or(0, |contact| contact.last_seen_at.0),
            name: row.node.name,
        }
    });
    Ok(v1::ClusterCaAnswer {
        cluster_id: cluster.id.to_vec(),
        cluster_name: cluster.name.clone(),
        stage: cluster.cas.stage.as_str().to_owned(),
        nodes: nodes.collect(),
        cas: rows.into_iter().map(ca).collect(),
    })
}

fn ca(row: rap_store::ClusterCaRow) -> v1::ClusterCa {
    let state = row.state.to_string();
    v1::ClusterCa { generation: row.generation, state, certificate: row.cert_der }
}

/// How many nodes follow the rotation; `None` if there is none.
pub(crate) async fn rotation(
    connection: &mut PgConnection,
    cluster: &Cluster,
) -> Result<Option<v1::CaRotation>, Failure> {
    if cluster.cas.stage == CaStage::Single {
        return Ok(None);
    }
    let members = members(connection, &cluster.rows).await?;
    let count = |nodes: usize| u32::try_from(nodes).unwrap_or(u32::MAX);
    let all = members.len();
    let missing = cluster.cas.missing(members).len();
    let stage = cluster.cas.stage.as_str().to_owned();
    Ok(Some(v1::CaRotation { stage, members: count(all), confirmed: count(all - missing) }))
}
