//! One task per cluster: publishes what committed, and signs again while nothing does.
//!
//! Owns when a round runs. Takes no input but the database: a missed wake costs one poll.

use std::sync::Arc;
use std::time::Duration;

use rap_planner::PlanError;
use rap_types::{ClusterId, Reason};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::acts::raise_incarnation::raise_incarnation;
use crate::config::settings::Config;
use crate::publish::alarms::raise;
use crate::publish::gather::gather;
use crate::publish::head::RoundError;
use crate::publish::round;
use crate::publish::row_checks::RowChecks;
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;
use crate::watch::handle::Watch;
use crate::watch::raise::alarm_of_cluster;

/// Runs until the group is cancelled.
pub(crate) async fn publish(
    serving: Arc<Serving>,
    config: Arc<Config>,
    id: ClusterId,
    shutdown: CancellationToken,
) {
    let mut last_wake = Instant::now() - QUIET;
    let mut retry = Some(Duration::ZERO);
    let mut checks = RowChecks::new(config.pushing.rows_check);
    // Looked up for every round: its keys may have changed.
    while let Some(cluster) = serving.clusters.by_id(id) {
        let due = match retry {
            Some(pause) => Instant::now() + pause,
            None => refresh_due(&serving.watch, &cluster).min(checks.next_at()),
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = cluster.wake.woken() => {
                let crowded = serving.database.joins_wait();
                gather(&cluster.wake, &cluster.feed, last_wake.elapsed() < QUIET, crowded).await;
                last_wake = Instant::now();
                tracing::trace!(way = "the cluster changed");
            }
            () = tokio::time::sleep_until(due) => {}
        }
        let Some(cluster) = serving.clusters.by_id(id) else { return };
        cluster.wake.begin();
        retry = match round::run(&serving, &config, &cluster, &mut checks).await {
            Ok(()) => None,
            Err(error) => Some(after(&serving, &cluster, &error).await),
        };
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
            if let Err(failure) = raise_incarnation(serving, cluster, *published).await {
                tracing::error!(reason = %failure.reason, cluster = %cluster.id, "no new incarnation yet");
            }
            RETRY
        }
        RoundError::Rotated => match serving.load_cluster(cluster.id).await {
            Ok(_) => Duration::ZERO,
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
        // Another replica was first: what it published is in the rows that are read now.
        RoundError::Overtaken => Duration::ZERO,
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
            if matches!(plan, PlanError::NotAdmitted(_)) {
                // The row of a node that is gone is put right.
                serving.heal.notify_one();
            }
            serving
                .watch
                .alarm(plan.reason(), &format!("nothing new is published in cluster {}: {plan}", cluster.id));
            ALARM
        }
        RoundError::Refused(reason @ (Reason::RowTampered | Reason::PlannerDivergence), what) => {
            raise(&serving.watch, cluster.id, *reason, what, "nothing new is signed");
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

const RETRY: Duration = Duration::from_millis(500);

const ALARM: Duration = Duration::from_secs(5);
