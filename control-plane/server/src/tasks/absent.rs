//! Ephemeral nodes that nobody heard of for too long are removed, and connected ones are said to be there.
//!
//! Owns the looks; `rap_authority::Absence` says when the next one is. The database knows when any replica
//! last heard of a node; the cluster's lock makes one replica the remover. A replica that was down itself,
//! or had no database, knows nothing of absence before nodes could come back, and of nodes that were not its
//! own not before they could come to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rap_authority::{Absence, Look};
use rap_contract::RevocationKind;
use rap_store::{StoreError, SystemTransaction, cluster_hold, node_read, nodes_silent};
use rap_types::{ClusterId, Mono, NodeId, Reason};

use crate::acts::change::commit;
use crate::acts::policy::read_policy;
use crate::acts::remove_node::{NodeRemoval, write_removal};
use crate::database::change::Acting;
use crate::failure::Failure;
use crate::replica::Replica;
use crate::serve::cluster::Cluster;
use crate::watch::alarms::By;
use crate::watch::raise::alarm_about;

/// Runs until the group is cancelled.
pub async fn remove_absent(replica: Arc<Replica>) {
    let shutdown = replica.tasks.token();
    // Since when this replica has seen what is written about each cluster.
    let mut seeing: BTreeMap<ClusterId, Mono> = BTreeMap::new();
    let started = replica.watch.clock.now().mono;
    let mut pause = FIRST;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = replica.serving.absence.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = FIRST;
        let clusters = replica.serving.clusters.all();
        for (place, cluster) in clusters.iter().enumerate() {
            let now = replica.watch.clock.now().mono;
            let since = seeing.entry(cluster.id).or_insert(started);
            let again = match sweep(&replica, cluster, now.since(*since)).await {
                Ok(again) => {
                    replica.watch.alarms.lower(cluster.id, By::Absence, Reason::RowTampered);
                    again
                }
                Err(failure) => {
                    *since = replica.watch.clock.now().mono;
                    tracing::warn!(reason = %failure.reason, cluster = %cluster.id, "absent nodes were not removed");
                    if failure.reason == Reason::RowTampered {
                        let (found, wall) = (&failure.message, replica.watch.clock.now().wall);
                        replica.watch.alarms.raise(
                            Some(cluster.id),
                            By::Absence,
                            failure.reason,
                            found,
                            wall,
                        );
                        let object = format!("cluster/{}", cluster.id);
                        alarm_about(&replica.watch, failure.reason, &object, &failure.message).await;
                    }
                    AFTER_FAILURE
                }
            };
            pause = if place == 0 { again } else { pause.min(again) };
        }
    }
}

/// Removes the absent nodes of one cluster; returns when to look again.
async fn sweep(replica: &Replica, cluster: &Cluster, seeing: Duration) -> Result<Duration, Failure> {
    let mut transaction = replica.database.store.system().begin().await?;
    let policy = read_policy(&mut transaction, cluster).await?;
    let allowed = Duration::from_millis(policy.ephemeral_after_ms);
    let absence = Absence::of(allowed, replica.config.pushing.report_interval);
    let silent = nodes_silent(&mut transaction, cluster.id).await?;
    drop(transaction);
    // Reports would be too seldom for a short allowance.
    let stale = silent.iter().filter(|(_, silence)| *silence >= absence.heard_every() / 2);
    replica.serving.sessions.present(
        cluster.id,
        stale.map(|(node, _)| *node),
        || replica.watch.clock.now().mono,
        |node, heard| replica.serving.contacts.note(node, heard),
    );
    replica.serving.sessions.keep_ended(cluster.id, silent.iter().map(|(node, _)| *node));
    let look = judge(replica, cluster, &silent, &absence, seeing);
    if look.due.is_empty() {
        return Ok(look.again);
    }
    let now = replica.watch.clock.now().wall;
    let acting = Acting::alone("system", replica.keys.pen.clone(), now);
    let reason = format!("not heard of for {} s", absence.limit().as_secs());
    let acting = Acting { reason, ..acting };
    let removed = commit!(&replica.serving, &acting, |transaction| {
        remove(replica, transaction, &acting, cluster, &absence, seeing).await
    })?;
    if !removed.is_empty() {
        tracing::info!(cluster = %cluster.id, nodes = removed.len(), "absent ephemeral nodes were removed");
    }
    Ok(look.again)
}

fn judge(
    replica: &Replica,
    cluster: &Cluster,
    silent: &[(NodeId, Duration)],
    absence: &Absence,
    seeing: Duration,
) -> Look {
    // With a stream to this replica its contact may not be written yet.
    let presence = |node: &NodeId, silence| replica.serving.sessions.presence(cluster.id, *node, silence);
    absence.look(silent, presence, seeing)
}

async fn remove(
    replica: &Replica,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    absence: &Absence,
    seeing: Duration,
) -> Result<Vec<NodeId>, Failure> {
    cluster_hold(transaction, &cluster.rows).await?;
    let mut known = replica.serving.revocations_now(transaction, cluster).await?;
    let silent = nodes_silent(transaction, cluster.id).await?;
    let mut nodes = judge(replica, cluster, &silent, absence, seeing).due;
    nodes.truncate(AT_ONCE);
    let removal = NodeRemoval { kind: RevocationKind::Absent, action: "node.absent" };
    for node in &nodes {
        let row = node_read(transaction, &cluster.rows, *node).await?.ok_or(StoreError::Absent)?;
        // The statement that found it believes what the database says; the row that holds decides.
        if !row.node.ephemeral {
            return Err(Failure::new(Reason::RowTampered, format!("nodes/{node} was said to be ephemeral")));
        }
        known =
            write_removal(&replica.serving, transaction, acting, cluster, known, &row, removal).await?.known;
    }
    Ok(nodes)
}

const FIRST: Duration = Duration::from_secs(1);

const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Of one transaction; the rest is due at the next look.
const AT_ONCE: usize = 256;
