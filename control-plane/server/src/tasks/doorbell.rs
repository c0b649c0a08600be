//! Listens for changes by other replicas and polls for those whose ring was lost.

use std::sync::Arc;

use rap_runtime::service::Beat;
use rap_store::{DatabaseTarget, Doorbell, Ring, outbox_positions};
use rap_types::{Incarnation, Version};

use crate::control::Control;
use crate::grpc::Failure;

/// Runs until the group is cancelled.
pub async fn watch_outbox(control: Arc<Control>, target: DatabaseTarget, beat: Beat) {
    let shutdown = control.tasks.token();
    let mut doorbell = Doorbell::new(&target);
    loop {
        let ring = tokio::select! {
            () = shutdown.cancelled() => return,
            ring = doorbell.wait(control.config.pushing.outbox_poll) => ring,
        };
        // The loop goes on while the database is away; only a stuck process stops feeding the watchdog.
        beat.turned();
        if let Err(failure) = look(&control, ring).await {
            tracing::warn!(reason = %failure.reason, "the outbox could not be read: {}", failure.message);
        }
    }
}

/// Wakes the clusters that are behind the database; loads those that are new.
async fn look(control: &Arc<Control>, ring: Ring) -> Result<(), Failure> {
    let mut transaction = control.store.system().begin_snapshot().await?;
    let positions = outbox_positions(&mut transaction).await?;
    drop(transaction);
    for position in positions {
        if matches!(ring, Ring::Cluster(rung) if rung != position.cluster) {
            continue;
        }
        let Some(cluster) = control.clusters.by_id(position.cluster) else {
            control.load_cluster(position.cluster).await?;
            continue;
        };
        if cluster.keys != position.keys {
            control.reload_cluster(position.cluster).await?;
        }
        let stored = (Incarnation(position.incarnation), Version(position.config_seq));
        if cluster.feed.newest().map(|published| published.order.durable()) != Some(stored) {
            cluster.wake.notify_one();
        }
    }
    Ok(())
}
