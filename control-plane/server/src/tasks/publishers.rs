//! One publisher for every cluster that is served.
//!
//! Owns that a cluster gets its publisher once, however it came to be served.

use std::collections::BTreeSet;
use std::sync::Arc;

use rap_types::ClusterId;

use crate::publish::publisher::publish;
use crate::replica::Replica;

/// Runs until the group is cancelled.
pub async fn keep_publishers(replica: Arc<Replica>) {
    let shutdown = replica.tasks.token();
    let mut served = replica.serving.clusters.follow();
    let mut published: BTreeSet<ClusterId> = BTreeSet::new();
    loop {
        let ids = served.borrow_and_update().clone();
        for id in ids {
            if published.insert(id) {
                let (serving, config) = (replica.serving.clone(), replica.config.clone());
                replica.tasks.spawn("publisher", publish(serving, config, id, shutdown.clone()));
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = served.changed() => if changed.is_err() { return },
        }
    }
}
