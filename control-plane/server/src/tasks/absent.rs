//! Ephemeral nodes that nobody heard of for too long are removed.
//!
//! Owns when. The database knows when any replica last heard of a node; the cluster's lock makes one
//! replica the remover. A replica that was down itself knows nothing of absence before it has run that
//! long.

use std::sync::Arc;
use std::time::Duration;

use rap_authority::ids;
use rap_contract::RevocationKind;
use rap_store::{PgConnection, StoreError, cluster_hold, node_read, nodes_absent};
use rap_types::{Mono, NodeId, RequestId};

use crate::clusters::Cluster;
use crate::control::Control;
use crate::grpc::Failure;
use crate::grpc::membership::{Departure, read_policy, write_departure};
use crate::revocations::Known;

/// Runs until the group is cancelled.
pub async fn remove_absent(control: Arc<Control>) {
    let shutdown = control.tasks.token();
    let started = control.clock.now().mono;
    let mut pause = SHORTEST;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = LONGEST;
        for cluster in control.clusters.all() {
            match sweep(&control, &cluster, started).await {
                Ok(absence) => pause = pause.min((absence / 4).max(SHORTEST)),
                Err(failure) => {
                    tracing::warn!(reason = %failure.reason, cluster = %cluster.id, "absent nodes were not removed");
                }
            }
        }
    }
}

/// Removes the absent nodes of one cluster; returns the absence it allows.
async fn sweep(control: &Control, cluster: &Cluster, started: Mono) -> Result<Duration, Failure> {
    let mut transaction = control.store.system().begin().await?;
    let policy = read_policy(&mut transaction, cluster).await?;
    // A node that is connected is heard of at least once per report.
    let absence =
        Duration::from_millis(policy.ephemeral_after_ms).max(3 * control.config.pushing.report_interval);
    if control.clock.now().mono.since(started) < absence {
        return Ok(absence);
    }
    let absent =
        !here(control, cluster, nodes_absent(&mut transaction, cluster.id, absence).await?).is_empty();
    drop(transaction);
    if !absent {
        return Ok(absence);
    }
    let before = cluster.revocations.known();
    let done: Result<Vec<NodeId>, Failure> = rap_store::transact!(control.store.system(), |connection| {
        remove(control, connection, cluster, &before, absence).await
    });
    let removed = done?;
    if !removed.is_empty() {
        tracing::info!(cluster = %cluster.id, nodes = removed.len(), "absent ephemeral nodes were removed");
        control.revoked(cluster).await?;
    }
    Ok(absence)
}

async fn remove(
    control: &Control,
    connection: &mut PgConnection,
    cluster: &Cluster,
    before: &Known,
    absence: Duration,
) -> Result<Vec<NodeId>, Failure> {
    cluster_hold(connection, &cluster.rows).await?;
    let mut known = control.revocations(connection, cluster, before).await?;
    let nodes = here(control, cluster, nodes_absent(connection, cluster.id, absence).await?);
    let now = control.clock.now().wall;
    let departure = Departure {
        kind: RevocationKind::Absent,
        actor: "system".to_owned(),
        action: "node.absent",
        reason: format!("not heard of for {} s", absence.as_secs()),
        call: RequestId::from_parts(ids::millis(now), ids::random(&mut rand::rng())),
        pen: control.pen.clone(),
    };
    for node in &nodes {
        let row = node_read(connection, &cluster.rows, *node).await?.ok_or(StoreError::Absent)?;
        known = write_departure(control, connection, cluster, known, &row, &departure).await?.known;
    }
    Ok(nodes)
}

/// Those without a stream to this replica: their contact may not be written yet.
fn here(control: &Control, cluster: &Cluster, nodes: Vec<NodeId>) -> Vec<NodeId> {
    let connected = |node: &NodeId| control.sessions.acknowledged_by(cluster.id, *node).is_some();
    nodes.into_iter().filter(|node| !connected(node)).collect()
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
