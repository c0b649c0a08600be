//! Which of the links that this node wants are down, and since when.
//!
//! One peer that is off is that peer's fault: it is a warning here. A node whose links are all down while the control
//! plane hears it cannot be reached by anybody: that is its own fault.
//!
//! Owns that rule and its time. Refuses to own why a link is down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rap_types::{Mono, NodeId};
use rap_wire::v1::{PeerStats, TableLink, TablePeer};

/// What the data plane's reports say of the wanted links.
#[derive(Debug, Clone, Default)]
pub struct LinkWatch {
    wanted: BTreeSet<NodeId>,
    /// Since which report each wanted link is down.
    down: BTreeMap<NodeId, Mono>,
    /// Since which report no wanted link is up.
    none_up: Option<Mono>,
}

impl LinkWatch {
    /// A table with these peers was published.
    pub(crate) fn want(&mut self, peers: &[TablePeer]) {
        let wanted = peers.iter().filter(|peer| peer.link() == TableLink::Dial);
        self.wanted = wanted.filter_map(|peer| NodeId::from_slice(&peer.node_id).ok()).collect();
        self.down.retain(|peer, _| self.wanted.contains(peer));
    }

    /// The data plane reported these peers.
    pub(crate) fn reported(&mut self, peers: &[PeerStats], now: Mono) {
        let is_up = |peer: &&PeerStats| matches!(peer.link_state.as_str(), "established" | "suspect");
        let up = peers.iter().filter(is_up).filter_map(|peer| NodeId::from_slice(&peer.node_id).ok());
        let up: BTreeSet<NodeId> = up.collect();
        for peer in &self.wanted {
            if up.contains(peer) {
                self.down.remove(peer);
            } else {
                self.down.entry(*peer).or_insert(now);
            }
        }
        let none = self.wanted.len() >= WANTED && self.down.len() == self.wanted.len();
        self.none_up = none.then(|| self.none_up.unwrap_or(now));
    }

    /// Without a data plane nothing is known of links.
    pub(crate) fn plane_went_down(&mut self) {
        self.down.clear();
        self.none_up = None;
    }

    /// How many links are wanted.
    pub fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// How long the wanted link with this peer is down; `None` for one that is up or not wanted.
    pub fn down_for(&self, peer: NodeId, now: Mono) -> Option<Duration> {
        self.down.get(&peer).map(|since| now.since(*since))
    }

    /// The wanted links that are down for a minute or longer, by node id, and for how long.
    pub fn long_down(&self, now: Mono) -> impl Iterator<Item = (NodeId, Duration)> {
        let down = self.down.iter().map(move |(peer, since)| (*peer, now.since(*since)));
        down.filter(|(_, lasts)| *lasts >= LONG)
    }

    /// True if two or more links are wanted and for a minute none was up.
    pub fn none_is_up(&self, now: Mono) -> bool {
        self.none_up.is_some_and(|since| now.since(since) >= LONG)
    }
}

/// One link alone may be down because its peer is.
const WANTED: usize = 2;
/// Longer than a restart of a peer, or of this node, takes.
const LONG: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn table(peers: &[(u8, TableLink)]) -> Vec<TablePeer> {
        let peer = |(byte, link): &(u8, TableLink)| TablePeer {
            node_id: vec![*byte; 16],
            link: (*link).into(),
            ..TablePeer::default()
        };
        peers.iter().map(peer).collect()
    }

    fn report(watch: &mut LinkWatch, states: &[(u8, &str)], second: u64) {
        let peer = |(byte, state): &(u8, &str)| PeerStats {
            node_id: vec![*byte; 16],
            link_state: (*state).to_owned(),
            ..PeerStats::default()
        };
        watch.reported(&states.iter().map(peer).collect::<Vec<_>>(), at(second));
    }

    fn at(second: u64) -> Mono {
        Mono(0).plus(Duration::from_secs(second))
    }

    #[test]
    fn one_peer_that_is_off_is_told_and_only_a_node_without_any_link_is_alone() {
        let mut watch = LinkWatch::default();
        watch.want(&table(&[(1, TableLink::Dial), (2, TableLink::Dial), (3, TableLink::Accept)]));
        report(&mut watch, &[(1, "established"), (2, "dialing"), (3, "closed")], 10);
        report(&mut watch, &[(1, "suspect"), (2, "closed"), (3, "closed")], 75);
        let long: Vec<_> = watch.long_down(at(75)).collect();
        assert_eq!(long, [(NodeId::from_bytes([2; 16]), Duration::from_secs(65))]);
        assert!(!watch.none_is_up(at(1_000)), "one is up");
        report(&mut watch, &[(1, "closed"), (2, "dialing")], 80);
        report(&mut watch, &[(1, "dialing"), (2, "closed")], 110);
        assert!(!watch.none_is_up(at(139)), "a restart takes less");
        assert!(watch.none_is_up(at(140)));
        // Back for a moment: the time begins anew.
        report(&mut watch, &[(1, "closed"), (2, "established")], 141);
        report(&mut watch, &[(1, "closed"), (2, "closed")], 142);
        assert!(!watch.none_is_up(at(201)) && watch.none_is_up(at(202)));
        watch.plane_went_down();
        assert!(!watch.none_is_up(at(300)));
    }

    #[test]
    fn the_only_peer_of_a_node_may_be_off() {
        let mut watch = LinkWatch::default();
        watch.want(&table(&[(1, TableLink::Dial), (3, TableLink::None)]));
        report(&mut watch, &[(1, "closed"), (3, "closed")], 1);
        assert!(!watch.none_is_up(at(500)));
        assert_eq!(watch.long_down(at(500)).count(), 1);
        // Nobody wants it any more.
        watch.want(&[]);
        assert_eq!(watch.long_down(at(500)).count(), 0);
    }
}
