//! Looks at the rows that no version of a cluster depends on: the installation's own, tokens and requests to join.
//!
//! Owns when, and the alarms that are shown for as long as a row is not as it was written. What a version depends on is
//! looked at by the publisher.

use std::sync::Arc;
use std::time::Duration;

use rap_store::{
    RowName, TokenRow, installation_read, join_requests_and_tampered, rows_look, tokens_and_tampered,
};
use rap_types::{ClusterId, Reason};

use crate::failure::Failure;
use crate::replica::Replica;
use crate::serve::revoked_tokens::{is_put_back, put_back};
use crate::watch::alarms::By;
use crate::watch::raise::alarm_about_rows;

/// Runs until the group is cancelled.
pub async fn look_at_rows(replica: Arc<Replica>) {
    let shutdown = replica.tasks.token();
    let every = replica.config.pushing.rows_check;
    let every = if every.is_zero() { EVERY } else { every };
    loop {
        if let Err(failure) = look(&replica).await {
            tracing::debug!(reason = %failure.reason, "rows were not looked at: {}", failure.message);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

async fn look(replica: &Replica) -> Result<(), Failure> {
    // Before the rows: what is revoked meanwhile is above these floors.
    let floors = replica.database.floors.current().unwrap_or_default();
    let mut snapshot = replica.database.store.system().begin_snapshot().await?;
    let mut found = rows_look(&mut snapshot, &replica.keys.rows).await?.tampered;
    let installation = &replica.keys.installation;
    if !installation_read(&mut snapshot).await?.is_some_and(|row| installation.is_in(&row)) {
        found.push(RowName { table: "installation_authority", key: installation.facts.id.to_string() });
    }
    let mut all = vec![(None, found, Vec::new())];
    for cluster in replica.serving.clusters.all() {
        let (tokens, mut found) = tokens_and_tampered(&mut snapshot, &cluster.rows).await?;
        found.extend(join_requests_and_tampered(&mut snapshot, &cluster.rows).await?.1);
        all.push((Some(cluster.id), found, tokens));
    }
    drop(snapshot);
    for (cluster, found, tokens) in all {
        show(replica, cluster, &found, tokens.iter().filter(|row| is_put_back(&floors, row))).await;
        replica.serving.learn_revoked_tokens(&tokens).await?;
    }
    Ok(())
}

async fn show(
    replica: &Replica,
    cluster: Option<ClusterId>,
    found: &[RowName],
    revived: impl Iterator<Item = &TokenRow>,
) {
    let what = |row: &RowName| format!("row {} of table {} is not as it was written", row.key, row.table);
    let mut all: Vec<(Reason, String)> = found.iter().map(|row| (Reason::RowTampered, what(row))).collect();
    all.extend(revived.map(|row| (Reason::FloorRollback, put_back(row))));
    let texts: Vec<String> = all.iter().map(|(_, text)| text.clone()).collect();
    let (alarms, now) = (&replica.watch.alarms, replica.watch.clock.now().wall);
    alarms.keep_only(cluster, By::Look, &texts);
    for (reason, text) in &all {
        if alarms.raise(cluster, By::Look, *reason, text, now) && *reason == Reason::FloorRollback {
            replica.watch.alarm(*reason, text);
        }
    }
    alarm_about_rows(&replica.watch, found).await;
}

/// Where every version reads every row.
const EVERY: Duration = Duration::from_secs(60);
