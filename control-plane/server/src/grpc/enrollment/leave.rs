//! Leave: a node deregisters itself, proven by its identity key alone.

use std::sync::Arc;

use rap_authority::{ProofChannel, check_leave_proof};
use rap_contract::{KnownRevocations, PublicKey, RevocationKind};
use rap_store::{PgConnection, cluster_hold, node_read};
use rap_types::NodeId;
use rap_wire::v1;

use super::{Claim, refused};
use crate::clusters::Cluster;
use crate::control::Control;
use crate::grpc::membership::{Departure, Recorded, write_departure};
use crate::grpc::{Call, Failure};

pub(super) async fn leave(
    control: &Arc<Control>,
    call: &Call,
    request: v1::LeaveRequest,
) -> Result<v1::LeaveAnswer, Failure> {
    let Claim { nonce, key, node, cluster } =
        Claim::read(call, &request.nonce, &request.node_public_key, &request.node_id, &request.cluster_id)?;
    let channel = ProofChannel { nonce: &nonce, exporter: call.channel.exporter() };
    check_leave_proof(node, cluster, &key, &channel, &request.signature).map_err(|_| refused())?;
    let cluster = control.cluster(cluster).await?.ok_or_else(refused)?;
    let departure = Departure {
        kind: RevocationKind::Left,
        actor: format!("node:{node}"),
        action: "node.leave",
        reason: "it left".to_owned(),
        call: call.id,
        pen: control.pen.of_device(call.device(Some(&key))),
    };
    let before = cluster.revocations.known();
    let done: Result<Recorded, Failure> = rap_store::transact!(control.store.system(), |connection| {
        write(control, connection, &cluster, &before, node, &key, &departure).await
    });
    let recorded = done?;
    if recorded.version.is_some() {
        control.revoked(&cluster).await?;
    }
    Ok(v1::LeaveAnswer { revocation_sequence: recorded.known.chain.sequence() })
}

async fn write(
    control: &Control,
    connection: &mut PgConnection,
    cluster: &Cluster,
    before: &KnownRevocations,
    node: NodeId,
    key: &PublicKey,
    departure: &Departure,
) -> Result<Recorded, Failure> {
    cluster_hold(connection, &cluster.rows).await?;
    let known = control.revocations(connection, cluster, before).await?;
    let row = node_read(connection, &cluster.rows, node).await?.ok_or_else(refused)?;
    if row.node.cluster != cluster.id || row.node.node_public_key != *key.as_bytes() {
        return Err(refused());
    }
    // A node that was thrown out may go too: the answer is that it is gone.
    write_departure(control, connection, cluster, known, &row, departure).await
}
