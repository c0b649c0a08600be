//! When nodes were last heard of: gathered in memory, written once a second in one statement.
//!
//! Owns what is not written yet, until it is. How long ago a node was heard is measured by this replica's
//! monotonic clock, and counted back from the database's clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rap_store::{StoreError, node_contacts_record};
use rap_types::{Mono, NodeId};

use crate::replica::Replica;
use crate::serve::sessions::Heard;

/// Writes contacts until the group is cancelled, and a last time then.
pub async fn record_contacts(replica: Arc<Replica>) {
    let shutdown = replica.tasks.token();
    let mut warned: Option<Mono> = None;
    loop {
        let last = tokio::select! {
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        let contacts = replica.serving.contacts.take();
        if !contacts.is_empty() {
            match write(&replica, &contacts).await {
                Ok(()) => replica.serving.contacts.written(),
                Err(error) => {
                    let (now, waiting) = (replica.watch.clock.now().mono, contacts.len());
                    replica.serving.contacts.put_back(contacts, now);
                    replica.watch.metrics.contacts_failed();
                    if warned.is_none_or(|at| now.since(at) >= WARN_EVERY) {
                        warned = Some(now);
                        let failing_s = replica.serving.contacts.failing_for(now).as_secs();
                        tracing::warn!(
                            reason = %error.reason(), waiting, failing_s,
                            "contacts could not be written and wait: other replicas count connected nodes as silent"
                        );
                    }
                }
            }
        }
        if last {
            return;
        }
    }
}

async fn write(replica: &Replica, contacts: &BTreeMap<NodeId, Heard>) -> Result<(), StoreError> {
    rap_store::transact!(replica.database.store.system(), |connection| {
        let now = replica.watch.clock.now().mono;
        let ago = |(node, heard): (&NodeId, &Heard)| (*node, now.since(heard.at), heard.known.clone());
        let contacts: Vec<_> = contacts.iter().map(ago).collect();
        node_contacts_record(connection, &contacts).await
    })
}

const EVERY: Duration = Duration::from_secs(1);

const WARN_EVERY: Duration = Duration::from_secs(30);
