//! The runtime directory: unsigned dial hints, in memory, latest wins.
//!
//! Owns hints of connected nodes. Refuses to carry policy: a hint only says where to try.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use rap_types::{ClusterId, NodeId, Wall};
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

/// Hints of all connected nodes.
#[derive(Debug)]
pub struct Directory {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    sequence: u64,
    entries: BTreeMap<(ClusterId, NodeId), Entry>,
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    hints: Hints,
    observed_at: Wall,
}

/// Most hints of one kind per node.
const HINTS: usize = 8;

impl Default for Directory {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Directory {
    /// Records what a node said, seen from `source`. True if it changed something.
    pub fn observe(&self, cluster: ClusterId, node: NodeId, said: &Hints, source: IpAddr, now: Wall) -> bool {
        let hints = Hints { link: resolve(&said.link, source), wireguard: resolve(&said.wireguard, source) };
        let sequence = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let known = state.entries.get_mut(&(cluster, node));
            if let Some(known) = known.filter(|entry| entry.hints == hints) {
                known.observed_at = now;
                return false;
            }
            state.sequence += 1;
            let sequence = state.sequence;
            state.entries.insert((cluster, node), Entry { sequence, hints, observed_at: now });
            sequence
        };
        self.changed.send_replace(sequence);
        true
    }

    /// Forgets a node that went away for good.
    pub fn forget(&self, cluster: ClusterId, node: NodeId) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).entries.remove(&(cluster, node));
    }

    /// Follows changes; the value is only good for [`Self::since`].
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Entries of `cluster` that changed after `sequence` and that `visible` admits, and the sequence
    /// to ask from next time.
    pub fn since(
        &self,
        cluster: ClusterId,
        sequence: u64,
        visible: impl Fn(NodeId) -> bool,
    ) -> (Vec<v1::DirectoryEntry>, u64) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let range = (cluster, NodeId::ZERO)..=(cluster, NodeId::from_bytes([0xff; 16]));
        let entries = state
            .entries
            .range(range)
            .filter(|((_, node), entry)| entry.sequence > sequence && visible(*node))
            .map(|((_, node), entry)| v1::DirectoryEntry {
                node_id: node.to_vec(),
                link_hints: entry.hints.link.clone(),
                wireguard_hints: entry.hints.wireguard.clone(),
                observed_at_ms: entry.observed_at.0,
            })
            .collect();
        (entries, state.sequence)
    }
}

/// Puts the address a node was seen from in place of a wildcard, and drops what is no address.
fn resolve(said: &[String], source: IpAddr) -> Vec<String> {
    let mut hints: Vec<String> = Vec::new();
    for hint in said.iter().take(HINTS) {
        let Ok(address) = hint.parse::<SocketAddr>() else { continue };
        let address =
            if address.ip().is_unspecified() { SocketAddr::new(source, address.port()) } else { address };
        let text = address.to_string();
        if address.port() != 0 && !hints.contains(&text) {
            hints.push(text);
        }
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId::from_bytes([1; 16]);
    const ONE: NodeId = NodeId::from_bytes([1; 16]);
    const TWO: NodeId = NodeId::from_bytes([2; 16]);

    fn hints(link: &[&str]) -> Hints {
        Hints { link: link.iter().map(ToString::to_string).collect(), wireguard: Vec::new() }
    }

    #[test]
    fn a_wildcard_becomes_the_address_the_node_was_seen_from() {
        let source = IpAddr::from([10, 0, 0, 7]);
        let said = ["0.0.0.0:7443", "192.168.1.5:7443", "garbage", "10.0.0.7:7443", "[::]:1", "1.2.3.4:0"];
        let said: Vec<String> = said.iter().map(ToString::to_string).collect();
        assert_eq!(resolve(&said, source), ["10.0.0.7:7443", "192.168.1.5:7443", "10.0.0.7:1"]);
    }

    #[test]
    fn only_changes_and_only_visible_nodes_of_the_cluster_are_told() {
        let directory = Directory::default();
        let source = IpAddr::from([10, 0, 0, 7]);
        assert!(directory.observe(CLUSTER, ONE, &hints(&["1.2.3.4:1"]), source, Wall(1)));
        assert!(!directory.observe(CLUSTER, ONE, &hints(&["1.2.3.4:1"]), source, Wall(2)));
        assert!(directory.observe(CLUSTER, TWO, &hints(&["1.2.3.5:1"]), source, Wall(3)));
        assert!(directory.observe(
            ClusterId::from_bytes([9; 16]),
            ONE,
            &hints(&["9.9.9.9:1"]),
            source,
            Wall(3)
        ));
        let (entries, sequence) = directory.since(CLUSTER, 0, |node| node == TWO);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].link_hints, ["1.2.3.5:1"]);
        assert!(directory.since(CLUSTER, sequence, |_| true).0.is_empty());
        directory.observe(CLUSTER, ONE, &hints(&["1.2.3.4:2"]), source, Wall(4));
        assert_eq!(directory.since(CLUSTER, sequence, |_| true).0.len(), 1);
    }
}
