//! The peers of one node: what happened, and whom the node wants because of it.
//!
//! Owns the order of the decisions. An attempt is one of three: a replacement, a recovery, a refresh. It ends with a
//! link, a failure or its time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rap_types::{Mono, NodeId};

use crate::compose::{Composition, Map};
use crate::facts::{Input, Known, Own};
use crate::ladder::{Ladder, Rung};
use crate::peer::Peer;
use crate::random::Random;
use crate::size::sizes;
use crate::view::{Tier, View, Why};

/// The peers of one node.
#[derive(Debug, Clone)]
pub struct Peers {
    own: Own,
    peers: Map,
    /// There is somebody who dials.
    plane: bool,
    ladder: Ladder,
    refresh: Mono,
    random: Random,
    /// Whom the last decision wanted.
    decided: BTreeSet<NodeId>,
}

impl Peers {
    /// Of a node that knows nobody. The seed makes the jitter.
    pub fn new(seed: u64) -> Self {
        Self {
            own: Own::default(),
            peers: BTreeMap::new(),
            plane: false,
            ladder: Ladder::default(),
            refresh: Mono(0),
            random: Random::new(seed),
            decided: BTreeSet::new(),
        }
    }

    /// Takes one input. [`Self::decide`] draws the conclusions.
    pub fn handle(&mut self, input: Input, now: Mono) {
        match input {
            Input::Plane(up) => {
                self.plane = up;
                self.ladder = Ladder::default();
                self.decided.clear();
                self.refresh = now.plus(self.random.around(sizes(self.own.role).refresh));
                self.peers.values_mut().for_each(|peer| peer.plane_changed(now));
            }
            Input::Known(own, known) => self.know(own, known),
            Input::Up(node) => self.with(node, |peer| peer.rose(now)),
            Input::Down(node) => self.with(node, |peer| peer.fell(now)),
            Input::Measured(node, measured) => self.with(node, |peer| peer.measured = measured),
            Input::Used(node) => self.with(node, |peer| peer.used = Some(now)),
            Input::Reach(node, admitted) => self.with(node, |peer| peer.rendezvous.reach(admitted, now)),
        }
    }

    fn with(&mut self, node: NodeId, change: impl FnOnce(&mut Peer)) {
        self.peers.get_mut(&node).map(change);
    }

    fn know(&mut self, own: Own, known: Vec<Known>) {
        if own.node != self.own.node {
            self.peers.clear();
        }
        self.own = own;
        let ids: BTreeSet<NodeId> = known.iter().map(|known| known.node).collect();
        self.peers.retain(|node, _| ids.contains(node));
        for known in known {
            match self.peers.get_mut(&known.node) {
                Some(peer) => peer.known = known,
                None => drop(self.peers.insert(known.node, Peer::new(own.node, known))),
            }
        }
    }

    /// Draws the conclusions. True if others are wanted than by the decision before.
    pub fn decide(&mut self, now: Mono) -> bool {
        if !self.plane {
            return false;
        }
        let composition = Composition { own: self.own, now };
        self.end_attempts(composition);
        composition.compose(&mut self.peers);
        let stands = self.peers.values().any(|peer| peer.up.is_some());
        self.ladder.settle(!stands && self.peers.values().any(Peer::is_member), now);
        self.recover(now);
        self.replace(composition);
        self.look(composition);
        let wanted = self.wanted();
        let changed = wanted != self.decided;
        self.decided = wanted;
        changed
    }

    fn end_attempts(&mut self, composition: Composition) {
        let now = composition.now;
        let tried: Vec<_> = self
            .peers
            .values()
            .filter(|peer| peer.is_tried())
            .filter_map(|peer| Some((peer.known.node, peer.wanted?)))
            .collect();
        for (node, (why, since)) in tried {
            let Some(peer) = self.peers.get_mut(&node) else { continue };
            let missed = peer.up.is_none() && peer.missed.is_some_and(|at| at > since);
            let late = peer.up.is_none() && now >= since.plus(attempt(why));
            if missed || late {
                peer.missed = Some(now);
                peer.release();
            } else if let Some(up) = peer.up {
                if why != Why::Refresh {
                    peer.want(Why::Fill, now);
                } else if peer.measured.cost().is_some() && now >= up.plus(SETTLED)
                    || now >= up.plus(MEASURING)
                {
                    composition.adopt(&mut self.peers, node);
                }
            } else if why == Why::Recovery && !self.ladder.is_lost() {
                peer.release();
            }
        }
    }

    /// While every link is lost, others are dialled as well; the first that stands becomes a member.
    fn recover(&mut self, now: Mono) {
        if !self.ladder.is_lost() {
            for peer in self.peers.values_mut().filter(|peer| peer.why() == Some(Why::Recovery)) {
                peer.release();
            }
            return;
        }
        let running = self.attempts(Why::Recovery);
        let warm = sizes(self.own.role).warm;
        let most = if self.ladder.rung(now) == Rung::Warm { warm } else { usize::MAX };
        let order = self.candidates(now);
        let dialable = |node: &NodeId| self.peers[node].known.dialable;
        let candidates = order.into_iter().filter(dialable).take(most);
        let next = self.ladder.try_next(candidates, running, now, &mut self.random);
        if let Some(peer) = next.and_then(|node| self.peers.get_mut(&node)) {
            peer.want(Why::Recovery, now);
        }
    }

    /// A member that fails stays wanted until its replacement stands.
    fn replace(&mut self, composition: Composition) {
        let now = composition.now;
        let failing = self.peers.values().filter(|peer| peer.is_optional() && peer.is_failing(now)).count();
        let running = self.attempts(Why::Replacement);
        let free = failing.min(AT_ONCE).saturating_sub(running);
        if free == 0 || self.ladder.is_lost() {
            return;
        }
        let order = self.candidates(now).into_iter();
        let ready = |node: &NodeId| {
            let peer = &self.peers[node];
            peer.known.dialable && !peer.rests(now) && composition.is_eligible(peer)
        };
        let chosen: Vec<NodeId> = order.filter(ready).take(free).collect();
        for node in chosen {
            self.with(node, |peer| peer.want(Why::Replacement, now));
        }
    }

    /// One warm peer in turn is dialled and measured.
    fn look(&mut self, composition: Composition) {
        let now = composition.now;
        if now < self.refresh {
            return;
        }
        let sizes = sizes(self.own.role);
        self.refresh = now.plus(self.random.around(sizes.refresh));
        let warm = self.candidates(now).into_iter().take(sizes.warm);
        let eligible = |node: &NodeId| {
            let peer = &self.peers[node];
            peer.known.dialable && composition.is_eligible(peer) && !peer.known.draining
        };
        let next = warm.enumerate().filter(|(_, node)| eligible(node));
        let next = next.min_by_key(|(at, node)| (self.peers[node].looked_at, *at)).map(|(_, node)| node);
        if let Some(peer) = next.and_then(|node| self.peers.get_mut(&node)) {
            peer.looked_at = now;
            peer.want(Why::Refresh, now);
        }
    }

    fn attempts(&self, why: Why) -> usize {
        self.peers.values().filter(|peer| peer.why() == Some(why)).count()
    }

    /// Peers without a link that are not wanted, the most useful first.
    fn candidates(&self, now: Mono) -> Vec<NodeId> {
        let composition = Composition { own: self.own, now };
        let free = self.peers.values().filter(|peer| peer.wanted.is_none() && peer.up.is_none());
        let mut order: Vec<_> = free
            .map(|peer| {
                let used = peer.used.is_some_and(|at| now.since(at) < RECENT);
                let cost = peer.measured.cost().unwrap_or(u64::MAX);
                let known = &peer.known;
                let useful = (!composition.is_eligible(peer), !known.dialable, known.draining);
                ((useful, peer.rests(now), !used, cost, peer.order), known.node)
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, node)| node).collect()
    }

    /// When [`Self::decide`] has something to do, or [`Self::asked`]; later than `now` if both were called with it.
    pub fn due(&self, now: Mono) -> Option<Mono> {
        if !self.plane {
            return None;
        }
        let wanted = self.peers.values().filter_map(|peer| Some((peer, peer.wanted?)));
        let wanted = wanted.flat_map(|(peer, (why, since))| match (peer.is_tried(), peer.up) {
            (true, Some(up)) => [Some(up.plus(SETTLED)), Some(up.plus(MEASURING))],
            (true, None) => [Some(since.plus(attempt(why))), None],
            (false, None) => [Some(peer.failing_at()), None],
            (false, Some(_)) => [None, None],
        });
        let asked = self.peers.values().filter_map(|peer| peer.rendezvous.at());
        let ladder = self.ladder.due(self.attempts(Why::Recovery), now);
        let all = wanted.flatten().chain(ladder).chain([self.refresh]);
        all.filter(|at| *at > now).chain(asked).min()
    }

    /// Peers to whom a way is looked for now.
    pub fn asked(&mut self, now: Mono) -> Vec<NodeId> {
        let plane = self.plane;
        let due = self.peers.iter_mut().filter_map(|(node, peer)| {
            let taken = plane && peer.rendezvous.take(now);
            taken.then_some(*node)
        });
        due.collect()
    }

    /// Whether this node dials the peer.
    pub fn wants(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.wanted.is_some())
    }

    fn wanted(&self) -> BTreeSet<NodeId> {
        let wanted = self.peers.iter().filter(|(_, peer)| peer.wanted.is_some());
        wanted.map(|(node, _)| *node).collect()
    }

    /// How far recovery got.
    pub fn rung(&self, now: Mono) -> Rung {
        self.ladder.rung(now)
    }

    /// Every known peer.
    pub fn views(&self, now: Mono) -> BTreeMap<NodeId, View> {
        let warm: BTreeSet<NodeId> =
            self.candidates(now).into_iter().take(sizes(self.own.role).warm).collect();
        let view = |(node, peer): (&NodeId, &Peer)| {
            let (tier, otherwise) = match (peer.up, warm.contains(node)) {
                (Some(_), _) => (Tier::Active, Why::Accepted),
                (None, true) => (Tier::Warm, Why::Candidate),
                (None, false) if peer.wanted.is_some() => (Tier::Warm, Why::Candidate),
                (None, false) => (Tier::Cold, Why::Known),
            };
            let view = View {
                tier,
                state: peer.state(now),
                why: peer.why().unwrap_or(otherwise),
                wanted: peer.wanted.is_some(),
                asked_at: peer.rendezvous.at(),
            };
            (*node, view)
        };
        self.peers.iter().map(view).collect()
    }
}

/// An attempt that has no link by then failed.
const fn attempt(why: Why) -> Duration {
    Duration::from_secs(if matches!(why, Why::Recovery) { 3 } else { 10 })
}

/// A new link is measured for so long before it is judged.
const SETTLED: Duration = Duration::from_secs(2);
/// A link that was not measured by then is judged without.
const MEASURING: Duration = Duration::from_secs(15);
/// Attempts to replace members at the same time.
const AT_ONCE: usize = 3;
/// Traffic makes a peer useful for so long.
const RECENT: Duration = Duration::from_secs(600);
