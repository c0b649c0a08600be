//! Whom a node wants for good: homes, what is required, the best by cost, ranked ones, and what fills the set.
//!
//! Owns make-before-break: a member goes only when as many links stand without it as the set needs.

use std::collections::BTreeMap;

use rap_types::{Mono, NodeId};

use crate::facts::{Own, Required, Role};
use crate::peer::Peer;
use crate::size::sizes;
use crate::view::Why;

pub(crate) type Map = BTreeMap<NodeId, Peer>;

/// How many links the node wants, and who may be one of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Composition {
    pub(crate) own: Own,
    pub(crate) now: Mono,
}

impl Composition {
    /// A node that relays serve wants few links; one without relays, and a relay, as many as it may.
    pub(crate) const fn target(&self) -> usize {
        let sizes = sizes(self.own.role);
        if self.prefers_few() { sizes.active_min } else { sizes.active_max }
    }

    const fn prefers_few(&self) -> bool {
        self.own.relayed && !matches!(self.own.role, Role::Relay)
    }

    /// Whether the peer is wanted without need.
    pub(crate) const fn is_eligible(&self, peer: &Peer) -> bool {
        let relays_only = self.own.relayed || matches!(self.own.role, Role::Relay);
        peer.known.relay || !relays_only
    }

    /// Brings the members in line with what is known.
    pub(crate) fn compose(&self, peers: &mut Map) {
        self.homes(peers);
        self.required(peers);
        self.fill(peers);
        self.trim(peers);
    }

    /// The first homes that answer, as many as are to be kept, and those before them, which may answer again.
    fn homes(&self, peers: &mut Map) {
        let mut order: Vec<(usize, NodeId)> =
            peers.iter().filter_map(|(node, peer)| Some((peer.known.home?, *node))).collect();
        order.sort_unstable();
        let (mut counted, mut standing, mut kept) = (0, 0, 0);
        for (_, node) in order {
            let Some(peer) = peers.get_mut(&node) else { continue };
            if counted < self.own.homes && kept < self.own.homes + SPARE_HOMES {
                peer.want(Why::Home, self.now);
                kept += 1;
                counted += usize::from(!peer.is_failing(self.now));
                standing += usize::from(peer.up.is_some());
            } else if peer.why() == Some(Why::Home) && standing >= self.own.homes {
                peer.release();
            }
        }
        for peer in peers.values_mut().filter(|peer| peer.known.home.is_none()) {
            if peer.why() == Some(Why::Home) {
                peer.want(Why::Fill, self.now);
            }
        }
    }

    fn required(&self, peers: &mut Map) {
        let mut left = REQUIRED_MAX;
        for peer in peers.values_mut().filter(|peer| peer.why() != Some(Why::Home)) {
            let required = peer.known.required.filter(|_| left > 0).map(|required| match required {
                Required::Survives => Why::Survives,
                Required::Permitted => Why::Permitted,
            });
            match (required, peer.why()) {
                (Some(why), _) => {
                    peer.want(why, self.now);
                    left -= 1;
                }
                (None, Some(Why::Survives | Why::Permitted)) => peer.want(Why::Fill, self.now),
                (None, _) => {}
            }
        }
    }

    fn fill(&self, peers: &mut Map) {
        while members(peers) < self.target() {
            let Some((node, why)) = self.next(peers) else { return };
            if let Some(peer) = peers.get_mut(&node) {
                peer.want(why, self.now);
            }
        }
    }

    /// Who is wanted next, and why.
    fn next(&self, peers: &Map) -> Option<(NodeId, Why)> {
        let free = |peer: &&Peer| !peer.is_member() && self.is_eligible(peer) && !peer.known.draining;
        let candidates = || peers.values().filter(free);
        let ready = |peer: &&Peer| peer.known.dialable && !peer.rests(self.now);
        if count(peers, Why::Cost) < BEST {
            let apart = candidates().filter(ready).filter(|peer| is_apart(peers, peer, None));
            let costs = apart.filter_map(|peer| Some((peer.measured.cost()?, peer.order, peer.known.node)));
            if let Some((_, _, node)) = costs.min() {
                return Some((node, Why::Cost));
            }
        }
        if count(peers, Why::Rank) < RANKED {
            let ranked = candidates().filter(ready).filter(|peer| peer.known.rank > 0);
            if let Some(peer) = ranked.min_by_key(|peer| (peer.known.rank, peer.order)) {
                return Some((peer.known.node, Why::Rank));
            }
        }
        if self.prefers_few() {
            return None;
        }
        let all = peers.values().filter(|peer| !peer.is_member() && self.is_eligible(peer));
        let key = |peer: &&Peer| {
            let known = &peer.known;
            (peer.up.is_none(), known.draining, !known.dialable, peer.rests(self.now), peer.order)
        };
        all.min_by_key(key).map(|peer| (peer.known.node, Why::Fill))
    }

    /// Lets members go that are too many, and those that were taken for want of better ones.
    fn trim(&self, peers: &mut Map) {
        let proper =
            peers.values().any(|peer| peer.is_member() && peer.up.is_some() && self.is_eligible(peer));
        for peer in peers.values_mut().filter(|peer| proper && peer.is_optional()) {
            if !self.is_eligible(peer) {
                peer.release();
            }
        }
        let mut excess = members(peers).saturating_sub(self.target());
        if excess == 0 || standing(peers) < self.target() {
            return;
        }
        let mut optional: Vec<_> = peers.values().filter(|peer| peer.is_optional()).collect();
        optional.sort_by_key(|peer| {
            let cost = peer.measured.cost().unwrap_or(u64::MAX);
            (peer.up.is_some(), peer.why() == Some(Why::Cost), std::cmp::Reverse((cost, peer.order)))
        });
        let mut standing = standing(peers);
        let mut gone = Vec::new();
        for peer in optional {
            let stands = usize::from(peer.up.is_some());
            if excess == 0 || standing - stands < self.target() {
                break;
            }
            (excess, standing) = (excess - 1, standing - stands);
            gone.push(peer.known.node);
        }
        for node in gone {
            peers.get_mut(&node).map(Peer::release);
        }
    }

    /// A peer was looked at and its link stands: it becomes a member if there is room, or in place of one that costs a
    /// quarter more; else it is let go.
    pub(crate) fn adopt(&self, peers: &mut Map, node: NodeId) {
        let Some(peer) = peers.get(&node) else { return };
        let cost = peer.measured.cost();
        let standing = standing(peers);
        let room = members(peers) < self.target() || standing < self.target().min(members(peers));
        let dearest = peers.values().filter(|peer| peer.is_optional() && peer.up.is_some());
        let dearest = dearest.filter_map(|peer| Some((peer.measured.cost()?, peer.known.node))).max();
        let replaced = dearest.filter(|(dear, _)| {
            !room && cost.is_some_and(|cost| cost.saturating_mul(5) < dear.saturating_mul(4))
        });
        let replaced = replaced.map(|(_, node)| node);
        let apart = is_apart(peers, peer, replaced);
        let best = count(peers, Why::Cost) < BEST
            || replaced.is_some_and(|node| peers.get(&node).and_then(Peer::why) == Some(Why::Cost));
        let taken = cost.is_some() && (room || replaced.is_some()) && apart && best;
        let filled = !taken && room && (standing == 0 || !self.prefers_few());
        if let Some(peer) = peers.get_mut(&node) {
            match (taken, filled) {
                (true, _) => peer.want(Why::Cost, self.now),
                (false, true) => peer.want(Why::Fill, self.now),
                (false, false) => peer.release(),
            }
        }
        if let Some(replaced) = replaced.filter(|_| taken) {
            peers.get_mut(&replaced).map(Peer::release);
        }
    }
}

pub(crate) fn members(peers: &Map) -> usize {
    peers.values().filter(|peer| peer.is_member()).count()
}

/// Members whose link stands.
pub(crate) fn standing(peers: &Map) -> usize {
    peers.values().filter(|peer| peer.is_member() && peer.up.is_some()).count()
}

fn count(peers: &Map, why: Why) -> usize {
    peers.values().filter(|peer| peer.why() == Some(why)).count()
}

/// Whether no other member that cost chose is in the failure domain of this peer.
fn is_apart(peers: &Map, peer: &Peer, but: Option<NodeId>) -> bool {
    let best = peers.values().filter(|other| other.why() == Some(Why::Cost));
    let mut others =
        best.filter(|other| other.known.node != peer.known.node && Some(other.known.node) != but);
    peer.known.domain.is_empty() || others.all(|other| other.known.domain != peer.known.domain)
}

/// Members by cost.
const BEST: usize = 2;
/// Members by rank.
const RANKED: usize = 2;
/// Homes beyond those to be kept that are dialled while nearer ones do not answer.
const SPARE_HOMES: usize = 2;
/// Most peers that are wanted whatever they cost.
const REQUIRED_MAX: usize = rap_types::limits::ACTIVE_SET_MAX;
