//! Listens for changes by other replicas and polls for those whose ring was lost.

use std::sync::Arc;

use rap_runtime::service::Beat;
use rap_store::{ClusterPosition, DatabaseTarget, Doorbell, Ring, outbox_positions, outbox_urgent};
use rap_types::{ClusterId, Incarnation, Version};

use crate::failure::Failure;
use crate::replica::Replica;
use crate::serve::cluster::BREAKS_ONE;
use crate::watch::raise::alarm_about;

/// Runs until the group is cancelled.
pub async fn watch_outbox(replica: Arc<Replica>, target: DatabaseTarget, beat: Beat) {
    let shutdown = replica.tasks.token();
    let mut doorbell = Doorbell::new(&target);
    let mut failed: u32 = 0;
    loop {
        let ring = tokio::select! {
            () = shutdown.cancelled() => return,
            ring = doorbell.wait(replica.config.pushing.outbox_poll) => ring,
        };
        // The loop goes on while the database is away; only a stuck process stops feeding the watchdog.
        beat.turned();
        let Err(failure) = look(&replica, ring).await else {
            failed = 0;
            continue;
        };
        tracing::warn!(reason = %failure.reason, "the outbox could not be read: {}", failure.message);
        failed = failed.wrapping_add(1);
        if failed.is_multiple_of(ALARM_AFTER) {
            let text = format!("changes by other replicas were not read {failed} times in a row");
            replica.watch.alarm(failure.reason, &text);
        }
    }
}

/// Wakes the clusters that are behind the database; loads those that are new. One that cannot be taken in
/// keeps none of the others from it.
async fn look(replica: &Arc<Replica>, ring: Ring) -> Result<(), Failure> {
    let mut transaction = replica.database.store.system().begin_snapshot().await?;
    let positions = outbox_positions(&mut transaction).await?;
    drop(transaction);
    let mut outcome = Ok(());
    for position in positions {
        if matches!(ring, Ring::Cluster(rung) if rung != position.cluster) {
            continue;
        }
        if let Err(failure) = follow(replica, &position).await {
            tracing::warn!(reason = %failure.reason, cluster = %position.cluster, "not followed");
            outcome = Err(failure);
        }
    }
    outcome
}

async fn follow(replica: &Arc<Replica>, position: &ClusterPosition) -> Result<(), Failure> {
    let id = position.cluster;
    let Some(cluster) = replica.serving.clusters.by_id(id) else {
        let mut snapshot = replica.database.store.system().begin_snapshot().await?;
        return replica.serving.load_stored(&mut snapshot, id, &position.name).await;
    };
    let keys = match cluster.keys == position.keys {
        true => Ok(()),
        false => replica.serving.load_cluster(id).await.map(drop),
    };
    let stored = (Incarnation(position.incarnation), Version(position.config_seq));
    let served = cluster.feed.newest().map(|published| published.order.durable());
    if served != Some(stored) {
        if urgent_after(replica, id, served).await? {
            cluster.wake.urgent();
        } else {
            cluster.wake.changed();
        }
    }
    match keys {
        // It is served as it was loaded before.
        Err(failure) if BREAKS_ONE.contains(&failure.reason) => {
            let what = format!("what is stored of its keys does not load: {}", failure.message);
            alarm_about(&replica.watch, failure.reason, &format!("cluster/{id}"), &what).await;
            Ok(())
        }
        keys => keys,
    }
}

/// Whether a change after the version that is served must not wait for others.
async fn urgent_after(
    replica: &Replica,
    id: ClusterId,
    served: Option<(Incarnation, Version)>,
) -> Result<bool, Failure> {
    let Some((_, version)) = served else { return Ok(false) };
    let mut transaction = replica.database.store.system().begin().await?;
    Ok(outbox_urgent(&mut transaction, id, version.0).await?)
}

/// So many failed looks in a row are an alarm.
const ALARM_AFTER: u32 = 10;
