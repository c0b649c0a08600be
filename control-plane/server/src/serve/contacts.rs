//! Last contacts of nodes that are not written to the database yet.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rap_types::{Mono, NodeId};

use crate::serve::sessions::Heard;

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

    pub(crate) fn take(&self) -> BTreeMap<NodeId, Heard> {
        std::mem::take(&mut self.lock().unwritten)
    }

    pub(crate) fn written(&self) {
        self.lock().failing_since = None;
    }

    /// What could not be written goes back where nothing newer is there.
    pub(crate) fn put_back(&self, contacts: BTreeMap<NodeId, Heard>, now: Mono) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use rap_store::ContactFacts;

    fn heard(seconds: u64) -> Heard {
        Heard { at: Mono(seconds * 1_000_000_000), known: ContactFacts::default(), identity: None }
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
