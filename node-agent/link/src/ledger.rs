//! Bytes that wait in this process to be sent on, in all and by the node that they came from.
//!
//! Owns the two totals. A neighbour that sends more than others take fills its own share; it neither takes the place of
//! other neighbours nor the memory of the process. Knows no queue: a payload gives its share back when it is dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rap_types::NodeId;

use crate::frame::HEADER_LEN;

/// The totals of one process.
#[derive(Debug)]
pub struct Ledger {
    all: Arc<Account>,
    per_node: usize,
    nodes: Mutex<BTreeMap<NodeId, Arc<Account>>>,
}

/// The share of one node. Clones are the same share.
#[derive(Debug, Clone)]
pub struct Origin {
    all: Arc<Account>,
    own: Arc<Account>,
}

#[derive(Debug)]
struct Account {
    bytes: AtomicUsize,
    most: usize,
}

/// A payload that counts until it is dropped.
struct Charged {
    payload: Bytes,
    bytes: usize,
    origin: Origin,
}

impl Ledger {
    /// At most `all` bytes in the process and `per_node` bytes of one node.
    pub fn new(all: usize, per_node: usize) -> Self {
        Self { all: Account::new(all), per_node, nodes: Mutex::default() }
    }

    /// The share of a node.
    pub fn origin(&self, node: NodeId) -> Origin {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody uses the share of a node that is gone and whose frames are sent.
        nodes.retain(|_, account| Arc::strong_count(account) > 1);
        let own = nodes.entry(node).or_insert_with(|| Account::new(self.per_node)).clone();
        Origin { all: self.all.clone(), own }
    }

    /// Bytes that wait in all.
    pub fn bytes(&self) -> usize {
        self.all.bytes.load(Ordering::Relaxed)
    }
}

impl Origin {
    /// The same payload, counted until the last clone of it is dropped. `None`: a total is used up.
    pub fn charge(&self, payload: Bytes) -> Option<Bytes> {
        let bytes = payload.len() + OVERHEAD;
        if !self.own.take(bytes) {
            return None;
        }
        if !self.all.take(bytes) {
            self.own.give_back(bytes);
            return None;
        }
        Some(Bytes::from_owner(Charged { payload, bytes, origin: self.clone() }))
    }
}

impl Account {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), most })
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.most);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.origin.own.give_back(self.bytes);
        self.origin.all.give_back(self.bytes);
    }
}

impl fmt::Debug for Charged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Charged").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// What a waiting frame takes beside its payload: header, accounts, places in queues.
const OVERHEAD: usize = HEADER_LEN + 140;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    #[test]
    fn one_node_fills_its_share_and_others_have_theirs() {
        let ledger = Ledger::new(10_000, 4_000);
        let kilobyte = || Bytes::from(vec![7; 1_000 - OVERHEAD]);
        let flood = ledger.origin(node(1));
        let held: Vec<Bytes> = std::iter::from_fn(|| flood.charge(kilobyte())).take(100).collect();
        assert_eq!((held.len(), ledger.bytes()), (4, 4_000));
        assert_eq!(held[0], kilobyte());
        let other = ledger.origin(node(2));
        let more: Vec<Bytes> = std::iter::from_fn(|| other.charge(kilobyte())).take(100).collect();
        let third = ledger.origin(node(3));
        let last: Vec<Bytes> = std::iter::from_fn(|| third.charge(kilobyte())).take(100).collect();
        assert_eq!((more.len(), last.len()), (4, 2), "the total of the process");
        assert_eq!(ledger.origin(node(1)).charge(kilobyte()), None, "another connection, the same share");
        let clone = held[0].clone();
        drop(held);
        assert_eq!(ledger.bytes(), 7_000, "a clone keeps its bytes");
        drop((clone, more, last));
        assert_eq!(ledger.bytes(), 0);
    }

    #[test]
    fn the_shares_of_nodes_that_are_gone_are_forgotten() {
        let ledger = Ledger::new(1 << 20, 1 << 20);
        for number in 0..200 {
            let _gone = ledger.origin(node(number));
        }
        assert!(ledger.nodes.lock().unwrap().len() <= 1);
        let waits = ledger.origin(node(1)).charge(Bytes::from_static(b"waits")).unwrap();
        ledger.origin(node(2));
        assert!(ledger.nodes.lock().unwrap().contains_key(&node(1)), "its frame waits");
        drop(waits);
    }

    proptest! {
        /// Whatever comes and goes: no total is exceeded, and nothing is left at the end.
        #[test]
        fn totals_hold_and_everything_is_given_back(
            steps in proptest::collection::vec((0..4u8, 0..3_000usize, any::<bool>()), 0..300),
        ) {
            let ledger = Ledger::new(20_000, 8_000);
            let origins = [0, 1, 2, 3].map(|number| ledger.origin(node(number)));
            let mut held: Vec<(u8, Bytes)> = Vec::new();
            for (number, length, leaves) in steps {
                if leaves && !held.is_empty() {
                    held.swap_remove(length % held.len());
                }
                let of = |held: &[(u8, Bytes)], only: Option<u8>| {
                    let of = held.iter().filter(|(number, _)| only.is_none_or(|only| only == *number));
                    of.map(|(_, payload)| payload.len() + OVERHEAD).sum::<usize>()
                };
                let fits = of(&held, Some(number)) + length + OVERHEAD <= 8_000
                    && of(&held, None) + length + OVERHEAD <= 20_000;
                let charged = origins[usize::from(number)].charge(Bytes::from(vec![0; length]));
                prop_assert_eq!(charged.is_some(), fits);
                held.extend(charged.map(|payload| (number, payload)));
                prop_assert_eq!(ledger.bytes(), of(&held, None));
            }
            held.clear();
            prop_assert_eq!(ledger.bytes(), 0);
        }
    }
}
