//! Status of the installation.

use rap_store::{StoreError, cluster_read, cluster_summaries, nodes_doubted, nodes_elsewhere};
use rap_wire::v1;

use crate::auth::actor::Actor;
use crate::auth::call::Call;
use crate::grpc::answer::Answer;
use crate::replica::Replica;
use crate::views::cluster::{ca, rows};
use crate::views::owner::installation;
use crate::views::owner::installation::alarm;

pub(crate) async fn installation(
    replica: &Replica,
    _: &Call,
    _: v1::InstallationRequest,
) -> Answer<v1::InstallationAnswer> {
    if replica.keys.installation.activation().is_none() {
        let mut transaction = replica.database.store.system().begin().await?;
        replica.keys.installation.refresh_activation(&mut transaction).await?;
    }
    let takes_over = replica.watch.readiness.takes_over(replica.watch.clock.now().mono);
    Ok(installation::installation(&replica.keys, &replica.config, takes_over))
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
        let mut acknowledged = replica.serving.sessions.acknowledged(id);
        let this = replica.watch.replica;
        for one in nodes_elsewhere(&mut transaction, id, this).await? {
            acknowledged.entry(one.node).or_insert(one.acked_version);
        }
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
