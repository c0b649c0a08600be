//! Where peers were seen, as the runtime directory tells: dial hints, never policy.
//!
//! Owns the bounds on them. Refuses names: a hint is an address and a port.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rap_types::NodeId;
use rap_types::sense::{self, Loopback};
use rap_wire::v1;

/// Most hints kept per peer and kind.
const PER_PEER: usize = 16;

/// Hints by peer; the latest of each peer wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints(BTreeMap<NodeId, PeerHints>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct PeerHints {
    link: Vec<String>,
    wireguard: Vec<String>,
    observed_at_ms: i64,
}

impl Hints {
    /// Takes an update in; entries of nodes that `is_peer` denies are dropped. True if anything changed.
    pub fn apply(&mut self, update: v1::DirectoryUpdate, is_peer: impl Fn(NodeId) -> bool) -> bool {
        let mut changed = false;
        for entry in update.entries {
            let Ok(node) = NodeId::from_slice(&entry.node_id) else { continue };
            let known = self.0.get(&node);
            if !is_peer(node) || known.is_some_and(|known| known.observed_at_ms > entry.observed_at_ms) {
                continue;
            }
            let next = PeerHints {
                link: usable(entry.link_hints),
                wireguard: usable(entry.wireguard_hints),
                observed_at_ms: entry.observed_at_ms,
            };
            changed |= known.is_none_or(|known| known.link != next.link || known.wireguard != next.wireguard);
            self.0.insert(node, next);
        }
        changed
    }

    /// Forgets nodes that are no peers any more.
    pub fn retain(&mut self, is_peer: impl Fn(NodeId) -> bool) {
        self.0.retain(|node, _| is_peer(*node));
    }

    /// Link hints of a peer.
    pub fn link(&self, node: NodeId) -> &[String] {
        self.0.get(&node).map_or(&[], |hints| &hints.link)
    }

    /// WireGuard hints of a peer.
    pub fn wireguard(&self, node: NodeId) -> &[String] {
        self.0.get(&node).map_or(&[], |hints| &hints.wireguard)
    }
}

fn usable(hints: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for hint in hints {
        let Ok(address) = hint.parse::<SocketAddr>() else { continue };
        // Whether the own host counts is told where it is dialled.
        let reachable = sense::socket_address(address, Loopback::Allowed).is_ok();
        let hint = address.to_string();
        if reachable && !kept.contains(&hint) && kept.len() < PER_PEER {
            kept.push(hint);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId::from_bytes([1; 16]);

    fn update(node: NodeId, hints: &[&str], at: i64) -> v1::DirectoryUpdate {
        let hints: Vec<String> = hints.iter().map(|hint| (*hint).to_owned()).collect();
        let entry = v1::DirectoryEntry {
            node_id: node.to_vec(),
            link_hints: hints.clone(),
            wireguard_hints: hints,
            observed_at_ms: at,
        };
        v1::DirectoryUpdate { entries: vec![entry] }
    }

    #[test]
    fn hints_of_strangers_are_dropped_and_the_latest_wins() {
        let mut hints = Hints::default();
        assert!(!hints.apply(update(NodeId::from_bytes([2; 16]), &["127.0.0.1:1"], 1), |node| node == PEER));
        assert!(hints.apply(update(PEER, &["127.0.0.1:2"], 5), |_| true));
        assert!(!hints.apply(update(PEER, &["127.0.0.1:1"], 4), |_| true));
        assert_eq!(hints.link(PEER), ["127.0.0.1:2"]);
        assert!(!hints.apply(update(PEER, &["127.0.0.1:2"], 6), |_| true), "no change in addresses");
        hints.retain(|_| false);
        assert_eq!(hints.wireguard(PEER), [] as [&str; 0]);
    }

    #[test]
    fn names_nonsense_and_floods_are_dropped() {
        let mut hints = Hints::default();
        let flood: Vec<String> = (1..100).map(|port| format!("127.0.0.1:{port}")).collect();
        let mut all = vec!["example.com:1", "0.0.0.0:1", "224.0.0.1:1", "127.0.0.1:0", "x", "[::1]:7"];
        all.extend(flood.iter().map(String::as_str));
        hints.apply(update(PEER, &all, 1), |_| true);
        assert_eq!(hints.link(PEER).len(), PER_PEER);
        assert_eq!(hints.link(PEER)[..2], ["[::1]:7", "127.0.0.1:1"]);
    }
}
