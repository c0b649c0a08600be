//! What the installation and its clusters are like now.

use std::sync::Arc;

use rap_store::{StoreError, cluster_read, cluster_summaries};
use rap_wire::v1;

use super::views;
use crate::alarms::Alarm;
use crate::control::Control;
use crate::grpc::{Actor, Call, Failure};

pub(super) async fn installation(
    control: &Arc<Control>,
    _: &Call,
    _: v1::InstallationRequest,
) -> Result<v1::InstallationAnswer, Failure> {
    if control.installation.activation().is_none() {
        let mut transaction = control.store.system().begin().await?;
        control.installation.refresh_activation(&mut transaction).await?;
    }
    Ok(views::installation(control))
}

pub(super) async fn status(
    control: &Arc<Control>,
    _: &Actor,
    _: v1::StatusRequest,
) -> Result<v1::StatusAnswer, Failure> {
    let mut transaction = control.store.system().begin_snapshot().await?;
    let mut clusters = Vec::new();
    for summary in cluster_summaries(&mut transaction).await? {
        let id = summary.cluster;
        let Some(cluster) = control.clusters.by_id(id) else { continue };
        // A cluster whose own row was tampered with is shown by its alarm.
        let row = match cluster_read(&mut transaction, &cluster.rows).await {
            Ok(row) => row,
            Err(StoreError::Tampered { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let acknowledged = control.sessions.acknowledged(id);
        clusters.push(v1::ClusterStatus {
            cluster: row.map(|row| views::cluster(&cluster, &row)),
            nodes_active: u32::try_from(summary.nodes_active).unwrap_or(u32::MAX),
            nodes_connected: u32::try_from(acknowledged.len()).unwrap_or(u32::MAX),
            requests_pending: u32::try_from(summary.requests_pending).unwrap_or(u32::MAX),
            converged_version: acknowledged.values().copied().min().unwrap_or(0),
        });
    }
    Ok(v1::StatusAnswer {
        installation: Some(views::installation(control)),
        clusters,
        alarms: control.alarms.all().into_iter().map(alarm).collect(),
        audit: Some(control.audit.status()),
        database: "ok".to_owned(),
        server_time_ms: control.clock.now().wall.0,
    })
}

fn alarm(alarm: Alarm) -> v1::Alarm {
    v1::Alarm {
        cluster_id: alarm.cluster.map(|cluster| cluster.to_vec()).unwrap_or_default(),
        reason: alarm.reason.to_string(),
        what: alarm.what,
        since_ms: alarm.since.0,
    }
}
