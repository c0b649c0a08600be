//! Last contacts of nodes that are not written to the database yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rap_store::HeardIdentity;
use rap_types::{Mono, NodeId};

use crate::serve::sessions::Heard;

/// The latest contact of each node that is not written yet, and what the node acknowledged; bounded by the number of nodes.
#[derive(Debug, Default)]
pub struct ContactBook(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    unwritten: BTreeMap<NodeId, Heard>,
    /// What is being written. It counts as unwritten until it is.
    writing: Arc<BTreeMap<NodeId, Heard>>,
    failing_since: Option<Mono>,
}

impl ContactBook {
    /// Notes a contact; a later one replaces it, and keeps as whom the node was heard and what it acknowledged.
    pub fn note(&self, node: NodeId, mut heard: Heard) {
        let mut pages = self.lock();
        if let Some(earlier) = pages.unwritten.remove(&node) {
            heard.identity = later(earlier.identity, heard.identity);
        }
        pages.unwritten.insert(node, heard);
    }

    /// Newest (incarnation, version) that a node acknowledged under a key generation and that is not written yet; zeros for none.
    pub fn held(&self, node: NodeId, key_generation: u64) -> (u64, u64) {
        let pages = self.lock();
        let identities = [&pages.unwritten, &*pages.writing].map(|page| page.get(&node)?.identity);
        let held = identities.into_iter().flatten().filter(|(_, one)| one.key_generation == key_generation);
        held.map(|(_, one)| one.held).max().unwrap_or_default()
    }

    /// For how long nothing could be written; zero while it can.
    pub fn failing_for(&self, now: Mono) -> Duration {
        self.lock().failing_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// What is to be written now; [`Self::written`] or [`Self::put_back`] says how that ended.
    pub(crate) fn take(&self) -> Arc<BTreeMap<NodeId, Heard>> {
        let mut pages = self.lock();
        pages.writing = Arc::new(std::mem::take(&mut pages.unwritten));
        pages.writing.clone()
    }

    pub(crate) fn written(&self) {
        let mut pages = self.lock();
        pages.writing = Arc::default();
        pages.failing_since = None;
    }

    /// What could not be written goes back where nothing newer is there.
    pub(crate) fn put_back(&self, now: Mono) {
        let mut pages = self.lock();
        pages.failing_since.get_or_insert(now);
        let writing = std::mem::take(&mut pages.writing);
        for (node, heard) in Arc::unwrap_or_clone(writing) {
            let newer = pages.unwritten.entry(node).or_insert_with(|| heard.clone());
            newer.identity = later(heard.identity, newer.identity);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The later of two, with what was acknowledged in either under the same key generation. An acknowledgement alone keeps the
/// instance that was heard, and when.
fn later(
    earlier: Option<(Mono, HeardIdentity)>,
    newer: Option<(Mono, HeardIdentity)>,
) -> Option<(Mono, HeardIdentity)> {
    let (Some((before, earlier)), Some((at, newer))) = (earlier, newer) else { return newer.or(earlier) };
    if earlier.key_generation != newer.key_generation {
        let is_newer = earlier.key_generation < newer.key_generation;
        return Some(if is_newer { (at, newer) } else { (before, earlier) });
    }
    let held = earlier.held.max(newer.held);
    let (at, instance) = match newer.instance {
        Some(_) => (at, newer.instance),
        None => (before, earlier.instance),
    };
    Some((at, HeardIdentity { instance, held, ..newer }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_store::ContactFacts;

    fn heard(seconds: u64) -> Heard {
        Heard { at: Mono(seconds * 1_000_000_000), known: ContactFacts::default(), identity: None }
    }

    #[test]
    fn what_was_acknowledged_counts_until_it_is_written_whatever_is_heard_later() {
        let (book, node) = (ContactBook::default(), NodeId::from_bytes([1; 16]));
        let of = |seconds, key_generation, instance: Option<u8>, version| {
            let instance = instance.map(|byte| [byte; 16]);
            let identity = HeardIdentity { key_generation, instance, held: (1, version) };
            Heard { identity: Some((heard(seconds).at, identity)), ..heard(seconds) }
        };
        book.note(node, of(1, 1, Some(7), 5));
        book.note(node, of(2, 1, None, 9));
        // A new stream begins, and the node is said to be there.
        book.note(node, heard(3));
        assert_eq!((book.held(node, 1), book.held(node, 2)), ((1, 9), (0, 0)));
        let taken = book.take();
        assert_eq!(taken[&node], Heard { at: heard(3).at, ..of(1, 1, Some(7), 9) });
        book.note(node, heard(4));
        assert_eq!(book.held(node, 1), (1, 9), "while it is being written");
        book.put_back(heard(5).at);
        assert_eq!(book.held(node, 1), (1, 9), "and if that fails");
        book.note(node, of(6, 1, Some(8), 2));
        assert_eq!(book.take()[&node], of(6, 1, Some(8), 9));
        book.written();
        assert_eq!(book.held(node, 1), (0, 0));
        book.note(node, of(7, 2, None, 3));
        book.note(node, of(8, 1, Some(8), 9));
        assert_eq!((book.held(node, 1), book.held(node, 2)), ((0, 0), (1, 3)), "of the newest key");
    }

    #[test]
    fn what_could_not_be_written_waits_and_gives_way_to_what_is_newer() {
        let book = ContactBook::default();
        let [one, two] = [1, 2].map(|byte| NodeId::from_bytes([byte; 16]));
        book.note(one, heard(1));
        book.note(two, heard(1));
        let batch = book.take();
        assert_eq!(batch.len(), 2);
        book.note(two, heard(2));
        book.put_back(heard(3).at);
        assert_eq!(book.failing_for(heard(10).at), Duration::from_secs(7));
        let batch = book.take();
        assert_eq!(*batch, BTreeMap::from([(one, heard(1)), (two, heard(2))]));
        book.put_back(heard(9).at);
        assert_eq!(book.failing_for(heard(10).at), Duration::from_secs(7), "since the first failure");
        book.written();
        assert_eq!(book.failing_for(heard(10).at), Duration::ZERO);
    }
}
