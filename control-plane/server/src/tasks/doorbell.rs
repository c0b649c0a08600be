//! Listens for changes by other replicas and polls for those whose ring was lost.

use std::sync::Arc;
use std::time::Duration;

use rap_authority::{Floor, FloorOf};
use rap_runtime::service::Beat;
use rap_store::{
    ClusterPosition, DatabaseTarget, Doorbell, DoorbellSignal, doorbell_tell, outbox_positions, outbox_urgent,
};
use rap_types::{ClusterId, Incarnation, Reason, Version};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::replica::Replica;
use crate::serve::cluster::{BREAKS_ONE, Cluster};
use crate::serve::errands::{Errand, Unread};
use crate::serve::revoked_tokens::is_over;
use crate::serve::told;
use crate::serve::told::Told;
use crate::watch::raise::alarm_about;

/// Runs until the group is cancelled.
pub async fn watch_outbox(replica: Arc<Replica>, target: DatabaseTarget, beat: Beat) {
    let shutdown = replica.tasks.token();
    let mut doorbell = Doorbell::new(&target);
    let (mut failed, mut answered) = (0_u32, None);
    loop {
        let ring = tokio::select! {
            () = shutdown.cancelled() => return,
            ring = doorbell.wait(replica.config.pushing.outbox_poll) => ring,
        };
        // The loop goes on while the database is away; only a stuck process stops feeding the watchdog.
        beat.turned();
        if let DoorbellSignal::Told(text) = &ring {
            hear(&replica, text, &mut answered).await;
            continue;
        }
        if ring == DoorbellSignal::Begun
            && let Err(failure) = ask(&replica).await
        {
            tracing::warn!(reason = %failure.reason, "other replicas were not asked: {}", failure.message);
        }
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

/// Asks the other replicas for the floors that were told before this one listened.
async fn ask(replica: &Replica) -> Result<(), Failure> {
    let mut transaction = replica.database.store.system().begin().await?;
    doorbell_tell(&mut transaction, told::ASK).await?;
    Ok(transaction.commit().await?)
}

/// Does what another replica asks of this one, or takes its answer.
fn errand_of(replica: &Arc<Replica>, errand: Errand) {
    match errand {
        Errand::Ask { id, replica: asked, cluster, nodes, question } if asked == replica.watch.replica => {
            let this = replica.clone();
            replica.tasks.spawn("errand", async move {
                if let Err(failure) = this.serving.run_errand(id, cluster, nodes, &question).await {
                    tracing::warn!(reason = %failure.reason, "another replica got no answer: {}", failure.message);
                }
            });
        }
        Errand::Ask { .. } => {}
        Errand::Answer { id, result } => replica.serving.errands.answered(id, result),
    }
}

/// Takes what another replica told.
async fn hear(replica: &Arc<Replica>, text: &str, answered: &mut Option<Instant>) {
    if text == told::ASK {
        // Whoever can write the database can ask as often as it wants.
        if answered.is_none_or(|at: Instant| at.elapsed() >= SELDOM) {
            *answered = Some(Instant::now());
            if let Err(failure) = answer(replica).await {
                tracing::warn!(reason = %failure.reason, "floors were not told: {}", failure.message);
            }
        }
        return;
    }
    match Errand::of_text(&replica.keys, text) {
        Ok(errand) => return errand_of(replica, errand),
        Err(Unread::Forged) => {
            let what = "an errand that no replica sent";
            return alarm_about(&replica.watch, Reason::RowTampered, "told-errand", what).await;
        }
        Err(Unread::Other) => {}
    }
    let Some(Told { of, at, copies }) = Told::of_text(&replica.keys, text) else {
        alarm_about(&replica.watch, Reason::RowTampered, "told-floor", "a floor that no replica told").await;
        return;
    };
    let floors = replica.database.floors.current().unwrap_or_default();
    let known = floors.of(of);
    // A replica without a floor takes none from the database: an old text is as good as a new one.
    if known.is_some_and(|known| known.sequence >= at.sequence)
        || (of == FloorOf::GrantSet && known.is_none())
    {
        return;
    }
    let kept = replica.database.copies.keep(replica.watch.clock.now().wall, copies).await;
    let raised = replica.serving.raise_floor(of, at).await;
    for failure in [kept.err(), raised.err()].into_iter().flatten() {
        tracing::error!(reason = %failure.reason, "a floor that was told: {}", failure.message);
    }
    let (FloorOf::Revocations(id) | FloorOf::Authority(id)) = of else { return };
    let Some(cluster) = replica.serving.clusters.by_id(id) else { return };
    if of == FloorOf::Revocations(id)
        && let Err(failure) = take_revocations(replica, &cluster).await
    {
        tracing::error!(reason = %failure.reason, "revocations that were told: {}", failure.message);
    }
    cluster.wake.urgent();
}

/// Puts in force what was revoked up to the floor. A record that the database undid came along with the floor: a round of
/// the publisher, which takes rows only, would never put it in force.
async fn take_revocations(replica: &Replica, cluster: &Cluster) -> Result<(), Failure> {
    let mut snapshot = replica.database.store.system().begin_snapshot().await?;
    let known = cluster.revocations.known();
    let next = replica.serving.revocations(&mut snapshot, cluster, &known).await?;
    drop(snapshot);
    replica.serving.learn_revocations(cluster, next).await
}

/// Tells the floors of this replica.
async fn answer(replica: &Replica) -> Result<(), Failure> {
    let floors = replica.database.floors.current().unwrap_or_default();
    let mut all: Vec<(FloorOf, Floor)> = Vec::new();
    all.extend(floors.grant_set.filter(|at| at.sequence > 0).map(|at| (FloorOf::GrantSet, at)));
    all.extend(floors.revocations.iter().map(|(id, at)| (FloorOf::Revocations(*id), *at)));
    all.extend(floors.authorities.iter().map(|(id, at)| (FloorOf::Authority(*id), *at)));
    let now = replica.watch.clock.now().wall;
    let revoked = floors.revoked_tokens.iter().filter(|(_, at)| !is_over(at, now));
    all.extend(revoked.map(|(token, at)| (FloorOf::RevokedToken(*token), *at)));
    let mut transaction = replica.database.store.system().begin().await?;
    for floor in all {
        told::tell(&replica.keys, &mut transaction, floor, &[]).await?;
    }
    Ok(transaction.commit().await?)
}

/// Wakes the clusters that are behind the database; loads those that are new. One that cannot be taken in
/// keeps none of the others from it.
async fn look(replica: &Arc<Replica>, ring: DoorbellSignal) -> Result<(), Failure> {
    let mut transaction = replica.database.store.system().begin_snapshot().await?;
    let positions = outbox_positions(&mut transaction).await?;
    drop(transaction);
    let mut outcome = Ok(());
    for position in positions {
        if matches!(ring, DoorbellSignal::Cluster(rung) if rung != position.cluster) {
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

/// Between two answers to what replicas ask.
const SELDOM: Duration = Duration::from_secs(5);
