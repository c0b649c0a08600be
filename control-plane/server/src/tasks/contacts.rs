//! When nodes were last heard of: gathered in memory, written once a second in one statement.
//!
//! Owns what is not written yet, until it is. How long ago a node was heard is measured by this replica's
//! monotonic clock, and counted back from the database's clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rap_store::{StoreError, node_contacts_record};
use rap_types::{Mono, NodeId};

use crate::control::Control;
use crate::sync::Heard;

/// The latest contact of each node that is not written yet; bounded by the number of nodes.
#[derive(Debug, Default)]
pub struct ContactBook(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    unwritten: BTreeMap<NodeId, Heard>,
    failing_since: Option<Mono>,
}

impl ContactBook {
    /// Notes a contact; a later one replaces it.
    pub fn note(&self, node: NodeId, heard: Heard) {
        self.lock().unwritten.insert(node, heard);
    }

    /// For how long nothing could be written; zero while it can.
    pub fn failing_for(&self, now: Mono) -> Duration {
        self.lock().failing_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    fn take(&self) -> BTreeMap<NodeId, Heard> {
        std::mem::take(&mut self.lock().unwritten)
    }

    fn written(&self) {
        self.lock().failing_since = None;
    }

    /// What could not be written goes back where nothing newer is there.
    fn put_back(&self, contacts: BTreeMap<NodeId, Heard>, now: Mono) {
        let mut pages = self.lock();
        pages.failing_since.get_or_insert(now);
        for (node, heard) in contacts {
            pages.unwritten.entry(node).or_insert(heard);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes contacts until the group is cancelled, and a last time then.
pub async fn record_contacts(control: Arc<Control>) {
    let shutdown = control.tasks.token();
    let mut warned: Option<Mono> = None;
    loop {
        let last = tokio::select! {
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        let contacts = control.contacts.take();
        if !contacts.is_empty() {
            match write(&control, &contacts).await {
                Ok(()) => control.contacts.written(),
                Err(error) => {
                    let (now, waiting) = (control.clock.now().mono, contacts.len());
                    control.contacts.put_back(contacts, now);
                    control.metrics.contacts_failed();
                    if warned.is_none_or(|at| now.since(at) >= WARN_EVERY) {
                        warned = Some(now);
                        let failing_s = control.contacts.failing_for(now).as_secs();
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

async fn write(control: &Control, contacts: &BTreeMap<NodeId, Heard>) -> Result<(), StoreError> {
    rap_store::transact!(control.store.system(), |connection| {
        let now = control.clock.now().mono;
        let ago = |(node, heard): (&NodeId, &Heard)| (*node, now.since(heard.at), heard.known.clone());
        let contacts: Vec<_> = contacts.iter().map(ago).collect();
        node_contacts_record(connection, &contacts).await
    })
}

const EVERY: Duration = Duration::from_secs(1);
const WARN_EVERY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use rap_store::ContactFacts;

    fn heard(seconds: u64) -> Heard {
        Heard { at: Mono(seconds * 1_000_000_000), known: ContactFacts::default() }
    }

    #[test]
    fn what_could_not_be_written_waits_and_gives_way_to_what_is_newer() {
        let book = ContactBook::default();
        let [one, two] = [1, 2].map(|byte| NodeId::from_bytes([byte; 16]));
        book.note(one, heard(1));
        book.note(two, heard(1));
        let batch = book.take();
        assert!(book.take().is_empty());
        book.note(two, heard(2));
        book.put_back(batch, heard(3).at);
        assert_eq!(book.failing_for(heard(10).at), Duration::from_secs(7));
        let batch = book.take();
        assert_eq!(batch, BTreeMap::from([(one, heard(1)), (two, heard(2))]));
        book.put_back(batch, heard(9).at);
        assert_eq!(book.failing_for(heard(10).at), Duration::from_secs(7), "since the first failure");
        book.written();
        assert_eq!(book.failing_for(heard(10).at), Duration::ZERO);
    }
}
