//! One round of publication: rows at one version -> plan -> signed head -> database -> streams.
//!
//! Owns the order: nothing is served that is not committed, and only stored bytes are served.

use std::sync::Arc;

use rap_contract::RevocationChain;
use rap_planner::{Published, plan};
use rap_store::{PlannerRows, cluster_read, planner_rows};
use rap_types::{HeadOrder, Incarnation, Reason, Refresh, Version};

use crate::config::settings::Config;
use crate::publish::head::RoundError;
use crate::publish::planner_rows::planner_input;
use crate::publish::sign_version::{adopt, sign_version};
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;
use crate::serve::policies::policies_of;
use crate::watch::alarms::By;
use crate::watch::handle::Watch;

/// Publishes the newest version, or signs the present one again if that is due.
pub async fn run(serving: &Serving, config: &Config, cluster: &Cluster) -> Result<(), RoundError> {
    let newest = cluster.feed.newest();
    let advanced = judge(serving, config, cluster, newest.as_deref()).await;
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
) -> Result<(), RoundError> {
    if let Some(published) = newest {
        // One row says whether the other ones need to be read.
        let mut transaction = serving.database.store.system().begin().await?;
        let Some(row) = cluster_read(&mut transaction, &cluster.rows).await? else { return Ok(()) };
        drop(transaction);
        match published.order.durable().cmp(&(Incarnation(row.cluster.incarnation), Version(row.config_seq)))
        {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return refresh(&serving.watch, config, cluster, published).await,
            std::cmp::Ordering::Greater => return Err(RoundError::Ahead(published.order.incarnation)),
        }
    }
    let known = cluster.revocations.known();
    let Some(rows) = planner_rows(serving.database.store.system(), &cluster.rows, known.from()).await? else {
        return Ok(());
    };
    // The rows' incarnation belongs to one key, and only that key signs heads in it.
    match rows.authority_sequence.cmp(&cluster.chain.sequence()) {
        std::cmp::Ordering::Equal => {}
        std::cmp::Ordering::Greater => return Err(RoundError::Rotated),
        std::cmp::Ordering::Less => return Err(RoundError::RecordsLost),
    }
    let known = serving.judge_revocations(cluster, &known, &rows.revocations)?;
    serving.learn_revocations(cluster, known.clone()).await?;
    advance(&serving.watch, config, cluster, &rows, known.chain).await?;
    // A version of whole rows is out: whatever row of them was alarmed is as it was written again.
    serving.watch.alarms.lower(cluster.id, By::Publisher, Reason::RowTampered);
    Ok(())
}

async fn advance(
    watch: &Watch,
    config: &Config,
    cluster: &Cluster,
    rows: &PlannerRows,
    revocations: Arc<RevocationChain>,
) -> Result<(), RoundError> {
    let policies = policies_of(&rows.policies)?;
    let input = planner_input(&watch.keys, rows, revocations, policies);
    let planned = Arc::new(plan(&input, &cluster.map_key)?);
    let version = (planned.incarnation, planned.version);
    // After a restart, or when another replica was first: what is stored is what is served.
    if let Some(stored) = rows.head.as_ref().filter(|row| row.head.order.durable() == version) {
        return adopt(&watch.keys, cluster, planned, stored);
    }
    if let Some(stored) = rows.head.as_ref().filter(|row| row.head.order.durable() > version) {
        return Err(RoundError::Ahead(stored.head.order.incarnation));
    }
    let previous = rows.first_head.as_ref().map(|row| row.head.digest);
    let order = HeadOrder { incarnation: planned.incarnation, version: planned.version, refresh: Refresh(0) };
    sign_version(watch, config, cluster, planned, order, previous).await
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
