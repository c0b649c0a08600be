//! One round of publication: rows at one version -> plan -> signed head -> database -> streams.
//!
//! Owns the order: nothing is served that is not committed, and only stored bytes are served.

use std::cmp::Ordering;
use std::sync::Arc;

use rap_planner::{Plan, Published};
use rap_store::cluster_read;
use rap_types::{HeadOrder, Incarnation, Reason, Refresh, Version};

use crate::config::settings::Config;
use crate::publish::alarms::{tell_left_out, tell_senseless};
use crate::publish::head::RoundError;
use crate::publish::input::{Input, read};
use crate::publish::row_checks::RowChecks;
use crate::publish::sign_version::{adopt, sign_version};
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;
use crate::watch::alarms::By;
use crate::watch::handle::Watch;

/// Publishes the newest version, or signs the present one again if that is due.
pub(crate) async fn run(
    serving: &Serving,
    config: &Config,
    cluster: &Cluster,
    checks: &mut RowChecks,
) -> Result<(), RoundError> {
    let newest = cluster.feed.newest();
    let advanced = judge(serving, config, cluster, newest.as_deref(), checks).await;
    match &advanced {
        Ok(()) | Err(RoundError::Store(_) | RoundError::Overtaken | RoundError::Rotated) => {}
        Err(_) => checks.failed(),
    }
    if let (Err(RoundError::Plan(_) | RoundError::Refused(..)), Some(published)) = (&advanced, &newest) {
        // Nothing new is signed; nodes keep the last version that was right.
        refresh(&serving.watch, config, cluster, published).await?;
    }
    advanced
}

async fn judge(
    serving: &Serving,
    config: &Config,
    cluster: &Cluster,
    newest: Option<&Published>,
    checks: &mut RowChecks,
) -> Result<(), RoundError> {
    if let Some(published) = newest {
        // One row says whether the other ones need to be read.
        let mut transaction = serving.database.store.system().begin().await?;
        let Some(row) = cluster_read(&mut transaction, &cluster.rows).await? else { return Ok(()) };
        drop(transaction);
        let stored = (Incarnation(row.cluster.incarnation), Version(row.config_seq));
        match published.order.durable().cmp(&stored) {
            Ordering::Less => {}
            Ordering::Equal if checks.is_due_when_idle() => {}
            Ordering::Equal => return refresh(&serving.watch, config, cluster, published).await,
            Ordering::Greater => return Err(RoundError::Ahead(published.order.incarnation)),
        }
    }
    let mut base = newest.filter(|_| !checks.is_due()).map(|published| published.plan.as_ref());
    let (planned, input) = loop {
        let mut snapshot = serving.database.store.system().begin_snapshot().await?;
        let Some(input) = read(serving, &mut snapshot, (cluster, config.loopback), base).await? else {
            return Ok(());
        };
        drop(snapshot);
        serving.learn_revocations(cluster, input.revocations.clone()).await?;
        match input.plan(base, &cluster.map_key)? {
            Some(planned) => break (planned, input),
            None => base = None,
        }
    };
    advance(&serving.watch, config, cluster, planned, &input, newest).await?;
    if input.whole {
        checks.passed();
        // A version of whole rows is out: whatever row of them was alarmed is as it was written again.
        for reason in [Reason::RowTampered, Reason::PlannerDivergence] {
            serving.watch.alarms.lower(cluster.id, By::Publisher, reason);
        }
    }
    Ok(())
}

async fn advance(
    watch: &Watch,
    config: &Config,
    cluster: &Cluster,
    planned: Plan,
    input: &Input,
    newest: Option<&Published>,
) -> Result<(), RoundError> {
    let version = (planned.incarnation, planned.version);
    if let Some(published) = newest.filter(|newest| newest.order.durable() == version) {
        // Every row was read, and no version is new.
        if published.plan.tree.root() != planned.tree.root() {
            let what = "rows changed that no change in the outbox names".to_owned();
            return Err(RoundError::Refused(Reason::PlannerDivergence, what));
        }
        return refresh(watch, config, cluster, published).await;
    }
    let planned = Arc::new(planned);
    tell_left_out(watch, cluster.id, &planned);
    tell_senseless(watch, cluster.id, &planned);
    // After a restart, or when another replica was first: what is stored is what is served.
    if let Some(stored) = input.head.as_ref().filter(|row| row.head.order.durable() == version) {
        return adopt(&watch.keys, cluster, planned, stored);
    }
    if let Some(stored) = input.head.as_ref().filter(|row| row.head.order.durable() > version) {
        return Err(RoundError::Ahead(stored.head.order.incarnation));
    }
    let order = HeadOrder { incarnation: planned.incarnation, version: planned.version, refresh: Refresh(0) };
    sign_version(watch, config, cluster, planned, order, input.tip).await
}

async fn refresh(
    watch: &Watch,
    config: &Config,
    cluster: &Cluster,
    published: &Published,
) -> Result<(), RoundError> {
    let age = watch.clock.now().wall.since(published.issued_at);
    if age < cluster.timing.refresh_every {
        return Ok(());
    }
    let order = HeadOrder { refresh: Refresh(published.order.refresh.0 + 1), ..published.order };
    sign_version(watch, config, cluster, published.plan.clone(), order, published.previous).await
}
