//! Diagnostics: asks one node, over its stream, to ping another or to explain its path to it.

use std::time::Duration;

use rap_store::node_read;
use rap_types::{ChannelClass, NodeId, Reason};
use rap_wire::v1;
use v1::diagnostic_request::Body;

use crate::acts::change::commit;
use crate::acts::diagnose::{Diagnosis, write_diagnosis};
use crate::auth::actor::Actor;
use crate::failure::Failure;
use crate::grpc::answer::Answer;
use crate::replica::Replica;
use crate::serve::cluster::Cluster;

pub(crate) async fn ping(
    replica: &Replica,
    actor: &Actor,
    request: v1::AdminPingRequest,
) -> Answer<v1::AdminPingAnswer> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let ping = bounded(&request)?;
    let acting = actor.acting("");
    let what = Diagnosis { from: &request.from, to: &request.to, what: "ping" };
    let (from, to) = commit!(&replica.serving, &acting, |transaction| {
        write_diagnosis(transaction, &acting, &cluster, &what).await
    })?;
    let body = Body::Ping(v1::PingRequest { node_id: to.to_vec(), ..ping });
    let result = replica.serving.ask(cluster.id, (from, to), body).await?;
    let ping = result.ping.unwrap_or_default();
    Ok(v1::AdminPingAnswer {
        overlay: samples(&ping.overlay),
        link: samples(&ping.link),
        overlay_address: ping.overlay_address,
        link_state: ping.link_state,
        way: ping.way,
        via: relays(replica, &cluster, &ping.via).await?,
    })
}

pub(crate) async fn path_explain(
    replica: &Replica,
    actor: &Actor,
    request: v1::AdminPathExplainRequest,
) -> Answer<v1::AdminPathExplainAnswer> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    if request.down.len() > DOWN {
        return Err(Failure::new(Reason::RequestInvalid, "down: at most 64 relays"));
    }
    if !request.class.is_empty() && request.class.parse::<ChannelClass>().is_err() {
        return Err(Failure::new(Reason::RequestInvalid, "class: none of the channel classes"));
    }
    let acting = actor.acting("");
    let what = Diagnosis { from: &request.from, to: &request.to, what: "explain the path to" };
    let (from, to) = commit!(&replica.serving, &acting, |transaction| {
        write_diagnosis(transaction, &acting, &cluster, &what).await
    })?;
    let (class, down) = (request.class, request.down);
    let body = Body::PathExplain(v1::PathExplainRequest { node_id: to.to_vec(), class, down });
    let result = replica.serving.ask(cluster.id, (from, to), body).await?;
    if result.path_explain.is_empty() {
        return Err(Failure::new(
            Reason::RequestUnimplemented,
            "the agent of the node is older than this question",
        ));
    }
    Ok(v1::AdminPathExplainAnswer { json: result.path_explain })
}

/// The relays of a way with their names.
async fn relays(
    replica: &Replica,
    cluster: &Cluster,
    ids: &[Vec<u8>],
) -> Result<Vec<v1::PingRelay>, Failure> {
    let mut relays = Vec::new();
    let mut transaction = replica.database.store.system().begin().await?;
    for id in ids.iter().take(RELAYS).filter_map(|id| NodeId::from_slice(id).ok()) {
        let name = node_read(&mut transaction, &cluster.rows, id).await?.map(|row| row.node.name);
        relays.push(v1::PingRelay { node_id: id.to_vec(), name: name.unwrap_or_default() });
    }
    Ok(relays)
}

/// No way has more.
const RELAYS: usize = 3;

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

fn samples(samples: &[v1::PingSample]) -> Vec<v1::AdminPingSample> {
    samples
        .iter()
        .take(1000)
        .map(|sample| v1::AdminPingSample { sequence: sample.sequence, rtt_ns: sample.rtt_ns })
        .collect()
}

const LONGEST: Duration = Duration::from_secs(8);

/// Relays that may be assumed to be down.
const DOWN: usize = 64;
