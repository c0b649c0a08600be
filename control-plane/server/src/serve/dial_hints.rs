//! The runtime directory: unsigned dial hints, in memory, latest wins.
//!
//! Owns hints of connected nodes, one book per cluster, and how often one node's may change: what comes
//! faster is told later, the newest of it surely. Refuses to carry policy: a hint only says where to try.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rap_types::sense::Loopback;
use rap_types::{ClusterId, Mono, NodeId, Now, Wall, sense};
use rap_wire::v1;
use tokio::sync::watch;

/// Where a node may be reached, as it said or as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hints {
    /// For links.
    pub link: Vec<String>,
    /// For WireGuard.
    pub wireguard: Vec<String>,
}

/// Where a node was seen, and whether hints may name the own host.
pub type Source = (IpAddr, Loopback);

/// Hints of all connected nodes, by cluster.
#[derive(Debug, Default)]
pub struct Directory(Mutex<BTreeMap<ClusterId, Arc<ClusterDirectory>>>);

/// Hints of one cluster's nodes.
#[derive(Debug)]
pub struct ClusterDirectory {
    state: RwLock<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    sequence: u64,
    entries: BTreeMap<NodeId, Entry>,
    /// Who changed when: one place per entry.
    changes: BTreeMap<u64, NodeId>,
    /// Who said what is not told yet.
    waiting: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    hints: Hints,
    observed_at: Wall,
    /// When its changes would have come at the steady pace.
    due: Mono,
    waiting: Option<(Hints, Wall)>,
}

/// Most hints of one kind per node.
const HINTS: usize = 8;

/// How often the hints of one node may change: each change is told to all its peers.
const CHANGE_EVERY: Duration = Duration::from_secs(10);

/// Changes at once: a node that starts says its addresses as it learns them.
const CHANGES_AT_ONCE: u32 = 3;

impl Directory {
    /// The book of a cluster.
    pub fn of(&self, cluster: ClusterId) -> Arc<ClusterDirectory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(cluster).or_default().clone()
    }

    /// Tells, in every cluster, what waited and is due.
    pub fn tell_due(&self, now: Mono) {
        let books: Vec<_> = self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for book in books {
            book.tell_due(now);
        }
    }
}

impl Default for ClusterDirectory {
    fn default() -> Self {
        Self { state: RwLock::default(), changed: watch::Sender::new(0) }
    }
}

impl ClusterDirectory {
    /// Records what a node said, seen from `source`. True if it is told now; a node whose hints changed too
    /// often waits for [`Directory::tell_due`].
    pub fn observe(&self, node: NodeId, said: &Hints, (source, loopback): Source, now: Now) -> bool {
        let resolve = |said| resolve(said, (source, loopback));
        let hints = Hints { link: resolve(&said.link), wireguard: resolve(&said.wireguard) };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let entry = state.entries.entry(node).or_insert_with(|| Entry {
            sequence: 0,
            hints: Hints::default(),
            observed_at: now.wall,
            due: now.mono,
            waiting: None,
        });
        if entry.sequence != 0 && entry.hints == hints {
            (entry.observed_at, entry.waiting) = (now.wall, None);
            state.waiting.remove(&node);
            return false;
        }
        entry.waiting = Some((hints, now.wall));
        if !entry.may_change(now.mono) {
            state.waiting.insert(node);
            return false;
        }
        state.tell(node, now.mono);
        self.changed.send_replace(state.sequence);
        true
    }

    fn tell_due(&self, now: Mono) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let open = |node: &NodeId| state.entries.get(node).is_none_or(|entry| entry.may_change(now));
        let due: Vec<NodeId> = state.waiting.iter().copied().filter(open).collect();
        for node in &due {
            state.tell(*node, now);
        }
        if !due.is_empty() {
            self.changed.send_replace(state.sequence);
        }
    }

    /// Follows changes; the value is only good for [`Self::since`].
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Entries that changed after `sequence` or are of `fresh` nodes, and that `visible` admits, and the sequence to
    /// ask from next time. Looks at no other entry.
    pub fn since(
        &self,
        sequence: u64,
        fresh: &BTreeSet<NodeId>,
        visible: impl Fn(NodeId) -> bool,
    ) -> (Vec<v1::DirectoryEntry>, u64) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let changed = state.changes.range(sequence.saturating_add(1)..).map(|(_, node)| node);
        let told = |node: &&NodeId| {
            state.entries.get(node).is_some_and(|entry| (1..=sequence).contains(&entry.sequence))
        };
        let entries = changed
            .chain(fresh.iter().filter(told))
            .filter(|node| visible(**node))
            .filter_map(|node| state.entries.get(node).map(|entry| (node, entry)))
            .map(|(node, entry)| v1::DirectoryEntry {
                node_id: node.to_vec(),
                link_hints: entry.hints.link.clone(),
                wireguard_hints: entry.hints.wireguard.clone(),
                observed_at_ms: entry.observed_at.0,
            })
            .collect();
        (entries, state.sequence)
    }
}

impl State {
    /// What waits of a node becomes what is told.
    fn tell(&mut self, node: NodeId, now: Mono) {
        self.waiting.remove(&node);
        let Some(entry) = self.entries.get_mut(&node) else { return };
        let Some((hints, observed_at)) = entry.waiting.take() else { return };
        self.changes.remove(&entry.sequence);
        self.sequence += 1;
        let due = entry.due.max(now).plus(CHANGE_EVERY);
        *entry = Entry { sequence: self.sequence, hints, observed_at, due, waiting: None };
        self.changes.insert(self.sequence, node);
    }
}

impl Entry {
    fn may_change(&self, now: Mono) -> bool {
        self.due <= now.plus(CHANGE_EVERY * (CHANGES_AT_ONCE - 1))
    }
}

/// Puts the address a node was seen from in place of a wildcard, and drops what is no address that another host could
/// reach.
fn resolve(said: &[String], (source, loopback): Source) -> Vec<String> {
    let mut hints: Vec<String> = Vec::new();
    for hint in said.iter().take(HINTS) {
        let Ok(address) = hint.parse::<SocketAddr>() else { continue };
        let address =
            if address.ip().is_unspecified() { SocketAddr::new(source, address.port()) } else { address };
        let text = address.to_string();
        if sense::socket_address(address, loopback).is_ok() && !hints.contains(&text) {
            hints.push(text);
        }
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId::from_bytes([1; 16]);
    const OTHER: ClusterId = ClusterId::from_bytes([9; 16]);
    const ONE: NodeId = NodeId::from_bytes([1; 16]);
    const TWO: NodeId = NodeId::from_bytes([2; 16]);
    const SOURCE: Source = (IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7)), Loopback::Refused);

    fn hints(link: &[&str]) -> Hints {
        Hints { link: link.iter().map(ToString::to_string).collect(), wireguard: Vec::new() }
    }

    fn at(ms: u64) -> Now {
        Now { mono: Mono(1), wall: Wall(1) }.plus(Duration::from_millis(ms))
    }

    #[test]
    fn a_wildcard_becomes_the_address_the_node_was_seen_from() {
        let said = ["0.0.0.0:7443", "192.168.1.5:7443", "garbage", "10.0.0.7:7443", "[::]:1", "1.2.3.4:0"];
        let said: Vec<String> = said.iter().map(ToString::to_string).collect();
        assert_eq!(resolve(&said, SOURCE), ["10.0.0.7:7443", "192.168.1.5:7443", "10.0.0.7:1"]);
        let local =
            ["127.0.0.1:5432", "169.254.169.254:80", "255.255.255.255:1", "[fe80::1]:1", "[ff02::1]:1"];
        let local: Vec<String> = local.iter().map(ToString::to_string).collect();
        assert_eq!(resolve(&local, SOURCE), [] as [&str; 0], "no other host reaches it there");
        assert_eq!(resolve(&local, (SOURCE.0, Loopback::Allowed)), ["127.0.0.1:5432"]);
    }

    #[test]
    fn only_changes_and_only_visible_nodes_of_the_cluster_are_told_and_only_its_sessions_wake() {
        let directory = Directory::default();
        let (book, other) = (directory.of(CLUSTER), directory.of(OTHER));
        let (mut follows, follows_other) = (book.follow(), other.follow());
        assert!(book.observe(ONE, &hints(&["1.2.3.4:1"]), SOURCE, at(1)));
        assert!(!book.observe(ONE, &hints(&["1.2.3.4:1"]), SOURCE, at(2)));
        assert!(book.observe(TWO, &hints(&["1.2.3.5:1"]), SOURCE, at(3)));
        assert!(follows.has_changed().unwrap() && !follows_other.has_changed().unwrap());
        assert!(other.observe(ONE, &hints(&["9.9.9.9:1"]), SOURCE, at(3)));
        let (entries, sequence) = directory.of(CLUSTER).since(0, &BTreeSet::new(), |node| node == TWO);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].link_hints, ["1.2.3.5:1"]);
        assert!(book.since(sequence, &BTreeSet::new(), |_| true).0.is_empty());
        follows.mark_unchanged();
        book.observe(ONE, &hints(&["1.2.3.4:2"]), SOURCE, at(4));
        assert!(follows.has_changed().unwrap());
        assert_eq!(book.since(sequence, &BTreeSet::new(), |_| true).0.len(), 1);
        // One that became visible after its entry was passed over is told, once and only then.
        let (_, sequence) = book.since(0, &BTreeSet::new(), |_| false);
        let fresh = BTreeSet::from([TWO, NodeId::from_bytes([3; 16])]);
        let (entries, _) = book.since(sequence, &fresh, |_| true);
        assert_eq!(entries.iter().map(|entry| entry.node_id.clone()).collect::<Vec<_>>(), [TWO.to_vec()]);
        assert_eq!(book.since(0, &fresh, |_| true).0.len(), 2, "no entry comes twice");
        // A node that has nothing to say is known, too.
        assert!(book.observe(NodeId::from_bytes([3; 16]), &hints(&[]), SOURCE, at(5)));
    }

    /// Two ports in turn, twenty times a second, for an hour.
    #[test]
    fn a_node_that_never_stops_changing_is_told_rarely_and_its_last_word_surely() {
        let directory = Directory::default();
        let book = directory.of(CLUSTER);
        for byte in 10..200 {
            book.observe(NodeId::from_bytes([byte; 16]), &hints(&["1.1.1.1:1"]), SOURCE, at(0));
        }
        let quiet = book.since(0, &BTreeSet::new(), |_| true).1;
        let looked = std::cell::Cell::new(0);
        let mut sequence = quiet;
        for turn in 0..72_000_u64 {
            let said = hints(&[if turn % 2 == 0 { "1.2.3.4:1" } else { "1.2.3.4:2" }]);
            book.observe(ONE, &said, SOURCE, at(turn * 50));
            directory.tell_due(at(turn * 50).mono);
            sequence =
                book.since(sequence, &BTreeSet::new(), |_| looked.replace(looked.get() + 1) < u64::MAX).1;
        }
        let told = sequence - quiet;
        assert!((300..=364).contains(&told), "{told} changes in an hour");
        assert_eq!(looked.get(), told, "a look costs what changed, not what there is");
        // It stops, and what it said last is told without another word of it.
        let last = hints(&["1.2.3.4:9"]);
        assert!(!book.observe(ONE, &last, SOURCE, at(3_599_990)));
        directory.tell_due(at(3_599_990 + 40_000).mono);
        let (entries, _) = book.since(sequence, &BTreeSet::new(), |_| true);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].link_hints, ["1.2.3.4:9"]);
        // Back at once: what waited is not told any more, and one place is left of it.
        for (port, ms) in [("1.2.3.4:1", 1), ("1.2.3.4:2", 2), ("1.2.3.4:3", 3), ("1.2.3.4:9", 4)] {
            book.observe(TWO, &hints(&[port]), SOURCE, at(4_000_000 + ms));
        }
        assert!(!book.observe(TWO, &hints(&["1.2.3.4:3"]), SOURCE, at(4_000_005)));
        let after = book.since(0, &BTreeSet::new(), |_| true).1;
        directory.tell_due(at(9_000_000).mono);
        assert_eq!(book.since(after, &BTreeSet::new(), |_| true), (Vec::new(), after));
        assert_eq!(book.since(0, &BTreeSet::new(), |_| true).0.len(), 192);
    }
}
