//! By which way traffic to each peer goes, since when, by which it went before, and since when the peer answers nothing.
//!
//! Owns what is a change, and how seldom one is told. Refuses to choose ways: the data plane does.

use std::collections::BTreeMap;
use std::time::Duration;

use rap_types::{Mono, NodeId};
use rap_wire::v1::PeerStats;

/// The relays on a way, from this node on; none on the direct way.
pub type Relays = Vec<NodeId>;

/// Traffic to a peer takes another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayChange {
    /// The peer.
    pub peer: NodeId,
    /// The way before.
    pub from: Relays,
    /// The way from now on.
    pub to: Relays,
    /// Changes of this peer's way that were not told since the last one, this one not among them.
    pub untold: u32,
}

/// What the data plane's reports say of the ways.
#[derive(Debug, Clone, Default)]
pub struct WayWatch(BTreeMap<NodeId, Seen>);

#[derive(Debug, Clone, Default)]
struct Seen {
    way: Option<(Relays, Mono)>,
    before: Option<Relays>,
    told: Option<Mono>,
    untold: u32,
    bytes: (u64, u64),
    handshake_age: u64,
    unanswered: Option<Mono>,
}

impl WayWatch {
    /// The data plane reported these peers, all that it has. Gives the changes that are to be told.
    pub(crate) fn reported(&mut self, peers: &[PeerStats], now: Mono) -> Vec<WayChange> {
        let mut before = std::mem::take(&mut self.0);
        let mut changes = Vec::new();
        for stats in peers {
            let Ok(peer) = NodeId::from_slice(&stats.node_id) else { continue };
            let mut seen = before.remove(&peer).unwrap_or_default();
            changes.extend(seen.took(peer, stats, now));
            seen.heard(stats, now);
            self.0.insert(peer, seen);
        }
        changes
    }

    /// How long traffic to the peer goes by its way, and by which it went before.
    pub fn way(&self, peer: NodeId, now: Mono) -> Option<(Duration, Option<&Relays>)> {
        let seen = self.0.get(&peer)?;
        let (_, since) = seen.way.as_ref()?;
        Some((now.since(*since), seen.before.as_ref()))
    }

    /// How long the peer has answered nothing of what was sent to it; `None` if it answers, or for so short a time that
    /// it need not have.
    pub fn unanswered(&self, peer: NodeId, now: Mono) -> Option<Duration> {
        let since = self.0.get(&peer)?.unanswered?;
        Some(now.since(since)).filter(|lasts| *lasts >= ANSWERS)
    }
}

impl Seen {
    fn took(&mut self, peer: NodeId, stats: &PeerStats, now: Mono) -> Option<WayChange> {
        if stats.way.is_empty() {
            // None works now; the next one that does is compared with the last.
            return None;
        }
        let to: Relays = stats.via.iter().filter_map(|relay| NodeId::from_slice(relay).ok()).collect();
        if self.way.as_ref().is_some_and(|(way, _)| *way == to) {
            return None;
        }
        let (from, _) = self.way.replace((to.clone(), now))?;
        self.before = Some(from.clone());
        if self.told.is_some_and(|at| now.since(at) < TELL) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(WayChange { peer, from, to, untold: std::mem::take(&mut self.untold) })
    }

    fn heard(&mut self, stats: &PeerStats, now: Mono) {
        let (received, sent) = std::mem::replace(&mut self.bytes, (stats.rx_bytes, stats.tx_bytes));
        let age = std::mem::replace(&mut self.handshake_age, stats.handshake_age_ms);
        let shook_hands = stats.handshake_age_ms != 0 && (age == 0 || stats.handshake_age_ms < age);
        if stats.rx_bytes != received || shook_hands {
            self.unanswered = None;
        } else if stats.tx_bytes > sent {
            self.unanswered.get_or_insert(now);
        }
    }
}

/// A peer that receives data sends something within 10 s.
const ANSWERS: Duration = Duration::from_secs(15);
/// Changes of one peer's way are told no more often.
const TELL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId::from_bytes([1; 16]);

    fn at(second: u64) -> Mono {
        Mono(0).plus(Duration::from_secs(second))
    }

    fn relay(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 16])
    }

    fn by(via: &[u8]) -> PeerStats {
        let way = if via.is_empty() { "direct" } else { "relayed" };
        let via = via.iter().map(|byte| relay(*byte).to_vec()).collect();
        PeerStats { node_id: PEER.to_vec(), way: way.to_owned(), via, ..PeerStats::default() }
    }

    #[test]
    fn another_relay_is_told_once_and_one_that_alternates_seldom() {
        let mut watch = WayWatch::default();
        let none = PeerStats { node_id: PEER.to_vec(), ..PeerStats::default() };
        assert_eq!(watch.reported(std::slice::from_ref(&none), at(0)), []);
        assert_eq!(watch.reported(&[by(&[7])], at(1)), [], "the first way is no change");
        // No way works for a moment.
        assert_eq!(watch.reported(&[none], at(2)), []);
        let change = WayChange { peer: PEER, from: vec![relay(7)], to: vec![relay(8)], untold: 0 };
        assert_eq!(watch.reported(&[by(&[8])], at(3)), [change]);
        assert_eq!(watch.reported(&[by(&[8])], at(4)), []);
        assert_eq!(watch.way(PEER, at(9)), Some((Duration::from_secs(6), Some(&vec![relay(7)]))));
        assert_eq!((watch.reported(&[by(&[])], at(5)), watch.reported(&[by(&[8])], at(6))), (vec![], vec![]));
        let told = watch.reported(&[by(&[])], at(13));
        assert_eq!((told[0].untold, &told[0].to), (2, &Vec::new()));
        assert_eq!(watch.reported(&[], at(14)), []);
        assert_eq!(watch.way(PEER, at(14)), None, "no peer any more");
    }

    #[test]
    fn a_peer_that_answers_nothing_is_told_after_a_while() {
        let mut watch = WayWatch::default();
        let mut sent = |rx_bytes, tx_bytes, handshake_age_ms, second| {
            watch.reported(&[PeerStats { rx_bytes, tx_bytes, handshake_age_ms, ..by(&[]) }], at(second));
            watch.unanswered(PEER, at(second))
        };
        assert_eq!(sent(100, 100, 5_000, 0), None);
        assert_eq!(sent(100, 100, 60_000, 50), None, "nothing was sent");
        assert_eq!(sent(100, 200, 61_000, 51), None);
        assert_eq!(sent(100, 300, 75_000, 65), None);
        assert_eq!(sent(100, 300, 80_000, 70), Some(Duration::from_secs(19)));
        assert_eq!(sent(100, 400, 500, 80), None, "a handshake is an answer");
        assert_eq!(sent(100, 500, 1_500, 81), None);
        assert_eq!(sent(120, 500, 2_500, 82), None);
        assert_eq!(sent(120, 500, 90_000, 170), None);
    }
}
