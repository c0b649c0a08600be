//! When nodes were last heard of: gathered in memory, written once a second in one statement.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rap_store::{Contact, StoreError, node_contacts_record};
use rap_types::NodeId;

use crate::control::Control;

/// The latest contact of each node that is not written yet; bounded by the number of nodes.
#[derive(Debug, Default)]
pub struct ContactBook(Mutex<BTreeMap<NodeId, Contact>>);

impl ContactBook {
    /// Notes a contact; a later one replaces it.
    pub fn note(&self, node: NodeId, contact: Contact) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node, contact);
    }

    fn take(&self) -> Vec<(NodeId, Contact)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }
}

/// Writes contacts until the group is cancelled, and a last time then.
pub async fn record_contacts(control: Arc<Control>) {
    let shutdown = control.tasks.token();
    loop {
        let last = tokio::select! {
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        let contacts = control.contacts.take();
        if !contacts.is_empty() {
            let written: Result<(), StoreError> = rap_store::transact!(
                control.store.system(),
                |connection| node_contacts_record(connection, &contacts).await
            );
            if let Err(error) = written {
                tracing::debug!(%error, "contacts were not written");
            }
        }
        if last {
            return;
        }
    }
}

const EVERY: Duration = Duration::from_secs(1);
