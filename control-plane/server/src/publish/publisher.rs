//! One task per cluster: publishes what committed, and signs again while nothing does.
//!
//! Owns when a round runs. Takes no input but the database: a missed wake costs one poll.

use std::sync::Arc;
use std::time::Duration;

use rap_types::{ClusterId, Reason};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::acts::raise_incarnation::raise_incarnation;
use crate::config::settings::Config;
use crate::publish::head::RoundError;
use crate::publish::round;
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;
use crate::watch::alarms::By;
use crate::watch::handle::Watch;
use crate::watch::raise::alarm_of_cluster;

/// Runs until the group is cancelled.
pub async fn publish(serving: Arc<Serving>, config: Arc<Config>, id: ClusterId, shutdown: CancellationToken) {
    let mut last_wake = Instant::now() - QUIET;
    let mut retry = Some(Duration::ZERO);
    // Looked up for every round: its keys may have changed.
    while let Some(cluster) = serving.clusters.by_id(id) {
        let due = match retry {
            Some(pause) => Instant::now() + pause,
            None => refresh_due(&serving.watch, &cluster),
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = cluster.wake.notified() => {
                if last_wake.elapsed() < QUIET {
                    settle(&cluster.wake).await;
                }
                last_wake = Instant::now();
            }
            () = tokio::time::sleep_until(due) => {}
        }
        let Some(cluster) = serving.clusters.by_id(id) else { return };
        retry = match round::run(&serving, &config, &cluster).await {
            Ok(()) => None,
            Err(error) => Some(after(&serving, &cluster, &error).await),
        };
    }
}

/// Waits until wakes pause for 5 ms, at most 50 ms in all.
async fn settle(wake: &Notify) {
    let cap = Instant::now() + CAP;
    loop {
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep_until(cap.min(Instant::now() + TRAILING)) => return,
        }
        if Instant::now() >= cap {
            return;
        }
    }
}

fn refresh_due(watch: &Watch, cluster: &Cluster) -> Instant {
    let now = watch.clock.now().wall;
    let pause = match cluster.feed.newest() {
        Some(published) => cluster.timing.refresh_every.saturating_sub(now.since(published.issued_at)),
        None => cluster.timing.refresh_every,
    };
    Instant::now() + pause
}

async fn after(serving: &Serving, cluster: &Cluster, error: &RoundError) -> Duration {
    match error {
        RoundError::Store(error) => {
            tracing::warn!(%error, cluster = %cluster.id, "nothing published: the database does not answer");
            RETRY
        }
        RoundError::Ahead(published) => {
            alarm_of_cluster(
                &serving.watch,
                cluster.id,
                Reason::FloorRollback,
                "the database went back in time",
            );
            if let Err(failure) = raise_incarnation(&serving.watch, cluster, *published).await {
                tracing::error!(reason = %failure.reason, cluster = %cluster.id, "no new incarnation yet");
            }
            RETRY
        }
        RoundError::Rotated => match serving.reload_cluster(cluster.id).await {
            Ok(()) => Duration::ZERO,
            Err(failure) => {
                tracing::warn!(reason = %failure.reason, cluster = %cluster.id, "the new authority does not load");
                RETRY
            }
        },
        RoundError::RecordsLost => {
            serving
                .watch
                .alarm(Reason::FloorRollback, "the database lost authority records that were served");
            ALARM
        }
        RoundError::Divergence => {
            alarm_of_cluster(
                &serving.watch,
                cluster.id,
                Reason::PlannerDivergence,
                "nothing is published until an operator looks",
            );
            ALARM
        }
        RoundError::Plan(plan) => {
            serving
                .watch
                .alarm(plan.reason(), &format!("nothing new is published in cluster {}: {plan}", cluster.id));
            ALARM
        }
        RoundError::Refused(Reason::RowTampered, row) => {
            // Once per row, however often the round is tried again.
            if serving.watch.alarms.raise(
                Some(cluster.id),
                By::Publisher,
                Reason::RowTampered,
                row,
                serving.watch.clock.now().wall,
            ) {
                alarm_of_cluster(
                    &serving.watch,
                    cluster.id,
                    Reason::RowTampered,
                    &format!("{row}; nothing new is signed"),
                );
            }
            ALARM
        }
        // Floors, chains and rows that contradict them were alarmed where they were found.
        RoundError::Refused(..) | RoundError::Stored(_) => {
            tracing::error!(%error, cluster = %cluster.id, "nothing published");
            ALARM
        }
    }
}

const QUIET: Duration = Duration::from_millis(50);

const TRAILING: Duration = Duration::from_millis(5);

const CAP: Duration = Duration::from_millis(50);

const RETRY: Duration = Duration::from_millis(500);

const ALARM: Duration = Duration::from_secs(5);
