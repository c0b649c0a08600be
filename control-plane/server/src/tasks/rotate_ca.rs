//! Carries rotations of CAs on: each stage ends when no node is missing.
//!
//! Where a rotation is stands in the rows. So a replica that starts, or one beside another that ended, goes on with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rap_authority::CaStage;
use rap_types::{ClusterId, Mono, Reason};

use crate::acts::change::commit;
use crate::acts::rotate_ca::{CaOrder, write_ca_step};
use crate::database::change::Acting;
use crate::failure::Failure;
use crate::replica::Replica;
use crate::serve::cluster::Cluster;
use crate::serve::cluster_cas::members;

/// Runs until the group is cancelled.
pub async fn carry_on(replica: Arc<Replica>) {
    let shutdown = replica.tasks.token();
    // Since when no node of a cluster is missing.
    let mut complete: BTreeMap<(ClusterId, &'static str), Mono> = BTreeMap::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let mut seen = BTreeMap::new();
        for cluster in replica.serving.clusters.all() {
            if cluster.cas.stage == CaStage::Single {
                continue;
            }
            let key = (cluster.id, cluster.cas.stage.as_str());
            let now = replica.watch.clock.now().mono;
            match follow(&replica, &cluster, complete.get(&key).copied(), now).await {
                Ok(true) => drop(seen.insert(key, complete.get(&key).copied().unwrap_or(now))),
                Ok(false) => {}
                // Another replica was first, or a node is missing again.
                Err(failure)
                    if matches!(
                        failure.reason,
                        Reason::RequestConflict | Reason::CaState | Reason::CaUnconfirmed
                    ) => {}
                Err(failure) => tracing::warn!(
                    reason = %failure.reason, cluster = %cluster.id, "the rotation of the CA waits: {}", failure.message
                ),
            }
        }
        complete = seen;
    }
}

/// Takes the next step if it is due. True if no node is missing, as was the case since `since`.
async fn follow(
    replica: &Replica,
    cluster: &Cluster,
    since: Option<Mono>,
    now: Mono,
) -> Result<bool, Failure> {
    let mut snapshot = replica.database.store.system().begin_snapshot().await?;
    let missing = cluster.cas.missing(members(&mut snapshot, &cluster.rows).await?);
    drop(snapshot);
    if !missing.is_empty() {
        return Ok(false);
    }
    let stage = cluster.cas.stage;
    let pause = if stage == CaStage::Introducing { Duration::ZERO } else { LINKS_FOLLOW };
    if since.is_none_or(|since| now.since(since) < pause) && !pause.is_zero() {
        return Ok(true);
    }
    let wall = replica.watch.clock.now().wall;
    let acting = Acting::alone("system", replica.keys.pen.clone(), wall);
    let acting = Acting { reason: "no node is missing".to_owned(), ..acting };
    let id = cluster.id;
    let next = commit!(&replica.serving, &acting, |transaction| {
        write_ca_step(&replica.serving, transaction, &acting, id, CaOrder::Follow(stage)).await
    })?;
    tracing::info!(cluster = %id, stage = next.as_str(), "the rotation of the CA went on");
    Ok(false)
}

const EVERY: Duration = Duration::from_secs(1);

/// The last node that replaced its certificate replaces its links, too, before the CA of the old ones ends.
const LINKS_FOLLOW: Duration = Duration::from_secs(15);
