//! When nodes were last heard of: gathered in memory, written once a second in one statement.
//!
//! Owns what is not written yet, until it is. How long ago a node was heard is measured by this replica's
//! monotonic clock, and counted back from the database's clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rap_store::{
    IdentityRow, StoreError, identities_among, node_contacts_end, node_contacts_record,
    node_identities_record,
};
use rap_types::{Mono, NodeId, Reason};

use crate::replica::Replica;
use crate::serve::identity_doubts::{note, raise};
use crate::serve::sessions::Heard;

/// Writes contacts until the group is cancelled, and a last time then.
pub async fn record_contacts(replica: Arc<Replica>) {
    let shutdown = replica.tasks.token();
    let this = replica.watch.replica;
    let mut warned: Option<Mono> = None;
    // Nodes that are written to have their stream here.
    let mut claimed: BTreeSet<NodeId> = BTreeSet::new();
    loop {
        let last = tokio::select! {
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        let contacts = replica.serving.contacts.take();
        claimed.extend(contacts.keys());
        if !contacts.is_empty() {
            match write(&replica, this, &contacts).await {
                Ok(known) => {
                    replica.serving.contacts.written();
                    compare(&replica, this, known).await;
                }
                Err(error) => {
                    let (now, waiting) = (replica.watch.clock.now().mono, contacts.len());
                    replica.serving.contacts.put_back(now);
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
        if let Err(error) = end(&replica, &mut claimed).await {
            tracing::debug!(reason = %error.reason(), "nodes without a stream are still written to have one");
        }
        if last {
            return;
        }
    }
}

/// Writes which nodes have no stream here any more.
async fn end(replica: &Replica, claimed: &mut BTreeSet<NodeId>) -> Result<(), StoreError> {
    let here: BTreeSet<NodeId> = replica.serving.sessions.all().into_iter().map(|(_, node)| node).collect();
    let ended: Vec<NodeId> = claimed.difference(&here).copied().collect();
    if ended.is_empty() {
        return Ok(());
    }
    let this = replica.watch.replica;
    let written: Result<(), StoreError> =
        rap_store::transact!(replica.database.store.system(), |connection| {
            node_contacts_end(connection, &ended, this).await
        });
    written?;
    claimed.retain(|node| here.contains(node));
    Ok(())
}

/// Writes them. Gives as whom the nodes among them that spoke were heard before, by any replica.
async fn write(
    replica: &Replica,
    this: [u8; 16],
    contacts: &BTreeMap<NodeId, Heard>,
) -> Result<Vec<IdentityRow>, StoreError> {
    rap_store::transact!(replica.database.store.system(), |connection| {
        let now = replica.watch.clock.now().mono;
        let ago = |(node, heard): (&NodeId, &Heard)| (*node, now.since(heard.at), heard.known.clone());
        let spoke = |(node, heard): (&NodeId, &Heard)| {
            let (at, identity) = heard.identity?;
            Some((*node, now.since(at), identity))
        };
        let heard: Vec<_> = contacts.iter().filter_map(spoke).collect();
        let contacts: Vec<_> = contacts.iter().map(ago).collect();
        node_contacts_record(connection, this, &contacts).await?;
        if heard.is_empty() {
            return Ok(Vec::new());
        }
        let nodes: Vec<NodeId> = heard.iter().map(|(node, ..)| *node).collect();
        let known = identities_among(connection, &nodes).await?;
        node_identities_record(connection, this, &heard).await?;
        Ok(known)
    })
}

/// Puts what other replicas heard beside what this one did, and takes their doubts over.
async fn compare(replica: &Replica, this: [u8; 16], known: Vec<IdentityRow>) {
    let (serving, now) = (&replica.serving, replica.watch.clock.now().mono);
    for row in known {
        note(serving, row.cluster, row.node, Reason::from_code(&row.doubt));
        let at = Mono(now.0.saturating_sub(u64::try_from(row.ago().as_nanos()).unwrap_or(u64::MAX)));
        let (node, key_generation) = (row.node, row.key_generation);
        let elsewhere = row.instance().filter(|_| row.replica() != this);
        if elsewhere.is_some_and(|instance| serving.identities.heard(node, key_generation, instance, at)) {
            raise(serving, row.cluster, (node, key_generation), Reason::NodeCloned).await;
        }
    }
}

const EVERY: Duration = Duration::from_secs(1);

const WARN_EVERY: Duration = Duration::from_secs(30);
