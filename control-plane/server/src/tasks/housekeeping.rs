//! What is removed because its time is over: sessions, replaced heads, old outbox rows, idle sources. And contacts
//! whose time is still to come.

use std::sync::Arc;
use std::time::Duration;

use rap_store::{
    PgConnection, StoreError, heads_prune, heartbeats_expire, idempotency_expire, node_contacts_bound,
    outbox_prune, sessions_expire,
};

use crate::auth::source_rates::SourceRates;
use crate::replica::Replica;
use crate::serve::cluster::Cluster;

/// Runs until the group is cancelled.
pub async fn keep_house(replica: Arc<Replica>, rates: Arc<SourceRates>) {
    let shutdown = replica.tasks.token();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        rates.forget_idle();
        if let Err(error) = sweep(&replica).await {
            tracing::debug!(%error, "housekeeping was put off");
        }
    }
}

async fn sweep(replica: &Replica) -> Result<(), StoreError> {
    let clusters = replica.serving.clusters.all();
    rap_store::transact!(replica.database.store.system(), |connection| {
        remove(connection, &clusters).await
    })
}

async fn remove(connection: &mut PgConnection, clusters: &[Arc<Cluster>]) -> Result<(), StoreError> {
    sessions_expire(connection).await?;
    idempotency_expire(connection).await?;
    heartbeats_expire(connection).await?;
    let future = node_contacts_bound(connection).await?;
    if future > 0 {
        tracing::warn!(
            contacts = future,
            "contacts lay in the future of the database's clock and count from now"
        );
    }
    for cluster in clusters {
        heads_prune(connection, cluster.id).await?;
        if let Some(published) = cluster.feed.newest() {
            outbox_prune(connection, cluster.id, published.order.version.0).await?;
        }
    }
    Ok(())
}

const EVERY: Duration = Duration::from_secs(60);
