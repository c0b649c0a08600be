//! Ping: asks one node, over its stream, to ping another.

use std::sync::Arc;
use std::time::Duration;

use rap_authority::ids;
use rap_store::{PgConnection, audit_insert};
use rap_types::{NodeId, Reason};
use rap_wire::v1;
use tokio::sync::oneshot;

use super::nodes::find;
use crate::control::Control;
use crate::grpc::{Actor, Failure, audit};
use crate::sync::Command;

pub(super) async fn ping(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::AdminPingRequest,
) -> Result<v1::AdminPingAnswer, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let ping = bounded(&request)?;
    let ends: Result<(NodeId, NodeId), Failure> = rap_store::transact!(
        control.store.system(),
        |connection| write(connection, actor, &cluster, &request).await
    );
    let (from, to) = ends?;
    let offline = || Failure::new(Reason::NodeOffline, "the node has no stream to this control plane");
    let commands = control.sessions.commands(cluster.id, from).ok_or_else(offline)?;
    let (reply, answer) = oneshot::channel();
    let diagnostic_id = ids::random::<16>(&mut rand::rng()).to_vec();
    let body = v1::diagnostic_request::Body::Ping(v1::PingRequest { node_id: to.to_vec(), ..ping });
    let request = v1::DiagnosticRequest { diagnostic_id, body: Some(body) };
    commands.try_send(Command::Diagnose { request, target: to, reply }).map_err(|_| {
        Failure::new(Reason::RateLimited, "this node is asked too much; try again in a second")
    })?;
    let result = tokio::time::timeout(DEADLINE, answer)
        .await
        .map_err(|_| Failure::new(Reason::RequestTimeout, "the node did not answer in time"))?
        .map_err(|_| offline())?
        .map_err(|reason| Failure::new(reason, "the node's stream refused"))?;
    if !result.reason.is_empty() {
        let reason = Reason::from_code(&result.reason).unwrap_or(Reason::ServerInternal);
        return Err(Failure::said(reason, "the node answered with a refusal"));
    }
    let ping = result.ping.unwrap_or_default();
    Ok(v1::AdminPingAnswer {
        overlay: samples(&ping.overlay),
        link: samples(&ping.link),
        overlay_address: ping.overlay_address,
        link_state: ping.link_state,
    })
}

/// So many pings, so far apart, that the node answers within the deadline.
fn bounded(request: &v1::AdminPingRequest) -> Result<v1::PingRequest, Failure> {
    let count = if request.count == 0 { 3 } else { request.count };
    let interval_ms = if request.interval_ms == 0 { 200 } else { request.interval_ms };
    let span = Duration::from_millis(u64::from(count) * u64::from(interval_ms));
    if count > 20 || interval_ms < 10 || span > LONGEST {
        return Err(Failure::new(Reason::RequestInvalid, "at most 20 pings, 10 ms apart, within 8 s"));
    }
    Ok(v1::PingRequest { node_id: Vec::new(), count, interval_ms })
}

async fn write(
    connection: &mut PgConnection,
    actor: &Actor,
    cluster: &crate::clusters::Cluster,
    request: &v1::AdminPingRequest,
) -> Result<(NodeId, NodeId), Failure> {
    let from = find(connection, cluster, &request.from).await?.node.node;
    let to = find(connection, cluster, &request.to).await?.node.node;
    let object = format!("node/{from}");
    let reason = format!("ping node/{to}");
    let entry =
        audit(&actor.audit_name(), "node.diagnose", object, Some(cluster.id), None, &reason, actor.call);
    audit_insert(connection, &actor.pen, &entry).await?;
    Ok((from, to))
}

fn samples(samples: &[v1::PingSample]) -> Vec<v1::AdminPingSample> {
    samples
        .iter()
        .take(1000)
        .map(|sample| v1::AdminPingSample { sequence: sample.sequence, rtt_ns: sample.rtt_ns })
        .collect()
}

const DEADLINE: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(8);
