//! Ping: asks one node, over its stream, to ping another.

use std::time::Duration;

use rap_authority::ids;
use rap_store::{StoreError, cluster_read, cluster_summaries, node_read, nodes_doubted};
use rap_types::{NodeId, Reason};
use rap_wire::v1;
use tokio::sync::oneshot;

use crate::acts::change::commit;
use crate::acts::diagnose::write_diagnosis;
use crate::auth::actor::Actor;
use crate::auth::call::Call;
use crate::failure::Failure;
use crate::grpc::answer::Answer;
use crate::replica::Replica;
use crate::serve::cluster::Cluster;
use crate::serve::sessions::Command;
use crate::views::cluster::{ca, rows};
use crate::views::owner::installation;
use crate::views::owner::installation::alarm;

pub(crate) async fn ping(
    replica: &Replica,
    actor: &Actor,
    request: v1::AdminPingRequest,
) -> Answer<v1::AdminPingAnswer> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let ping = bounded(&request)?;
    let acting = actor.acting("");
    let (from, to) = commit!(&replica.serving, &acting, |transaction| {
        write_diagnosis(transaction, &acting, &cluster, &request).await
    })?;
    let offline = || Failure::new(Reason::NodeOffline, "the node has no stream to this control plane");
    let commands = replica.serving.sessions.commands(cluster.id, from).ok_or_else(offline)?;
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
        way: ping.way,
        via: relays(replica, &cluster, &ping.via).await?,
    })
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

const DEADLINE: Duration = Duration::from_secs(10);

const LONGEST: Duration = Duration::from_secs(8);

pub(crate) async fn installation(
    replica: &Replica,
    _: &Call,
    _: v1::InstallationRequest,
) -> Answer<v1::InstallationAnswer> {
    if replica.keys.installation.activation().is_none() {
        let mut transaction = replica.database.store.system().begin().await?;
        replica.keys.installation.refresh_activation(&mut transaction).await?;
    }
    Ok(installation::installation(&replica.keys, &replica.config, replica.require_ready().is_ok()))
}

pub(crate) async fn status(replica: &Replica, _: &Actor, _: v1::StatusRequest) -> Answer<v1::StatusAnswer> {
    let ready = replica.watch.readiness.check(replica.watch.clock.now().mono);
    let mut transaction = replica.database.store.system().begin_snapshot().await?;
    let mut clusters = Vec::new();
    for summary in cluster_summaries(&mut transaction).await? {
        let id = summary.cluster;
        let Some(cluster) = replica.serving.clusters.by_id(id) else { continue };
        // A cluster whose own row was tampered with is shown by its alarm.
        let row = match cluster_read(&mut transaction, &cluster.rows).await {
            Ok(row) => row,
            Err(StoreError::Tampered { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let ca_rotation = match &row {
            Some(_) => ca::rotation(&mut transaction, &cluster).await.unwrap_or_else(|failure| {
                tracing::warn!(reason = %failure.reason, cluster = %id, "the rotation of the CA is not shown");
                None
            }),
            None => None,
        };
        let shown = |row| v1::Cluster { ca_rotation, ..rows::cluster(&row, &cluster.authority.public()) };
        let acknowledged = replica.serving.sessions.acknowledged(id);
        clusters.push(v1::ClusterStatus {
            cluster: row.map(shown),
            nodes_active: u32::try_from(summary.nodes_active).unwrap_or(u32::MAX),
            nodes_connected: u32::try_from(acknowledged.len()).unwrap_or(u32::MAX),
            requests_pending: u32::try_from(summary.requests_pending).unwrap_or(u32::MAX),
            converged_version: acknowledged.values().copied().min().unwrap_or(0),
        });
    }
    let mut alarms: Vec<_> = replica.watch.alarms.all().into_iter().map(alarm).collect();
    alarms.extend(nodes_doubted(&mut transaction).await?.into_iter().map(installation::doubt));
    Ok(v1::StatusAnswer {
        installation: Some(installation::installation(&replica.keys, &replica.config, ready.is_ok())),
        clusters,
        alarms,
        audit: Some(replica.audit.status()),
        database: ready.map_or_else(|reason| format!("not ready ({reason})"), |()| "ok".to_owned()),
        server_time_ms: replica.watch.clock.now().wall.0,
    })
}
