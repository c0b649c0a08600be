//! A node among peers whose links stand or not as a test says, on a clock of its own.
#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::BTreeSet;
use std::time::Duration;

use rap_peers::{Input, Known, Measured, Own, Peers, Role, State, Tier, View, Why};
use rap_types::{Mono, NodeId};

pub fn node(number: u16) -> NodeId {
    let mut id = [3; 16];
    id[14..].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(id)
}

pub fn number(node: NodeId) -> u16 {
    u16::from_be_bytes([node.as_bytes()[14], node.as_bytes()[15]])
}

pub fn known(number: u16) -> Known {
    Known {
        node: node(number),
        dialable: true,
        relay: false,
        draining: false,
        home: None,
        required: None,
        domain: String::new(),
        rank: 0,
    }
}

pub fn own(role: Role) -> Own {
    Own { node: node(0), role, relayed: false, homes: 0 }
}

pub struct World {
    pub peers: Peers,
    pub own: Own,
    pub known: Vec<Known>,
    /// Who does not answer.
    pub dead: BTreeSet<u16>,
    /// Whose links stand.
    pub up: BTreeSet<u16>,
    pub now: Mono,
    /// Whom it began to dial, and how long after the start.
    pub dialled: Vec<(Duration, u16)>,
    /// What each new link measures.
    pub rtt_ms: Option<u32>,
    wanted: BTreeSet<u16>,
    pub start: Mono,
}

impl World {
    /// A dial takes no time: it stands or fails with the next step.
    pub fn new(own: Own, known: Vec<Known>) -> Self {
        let start = Mono(1_000_000_000_000);
        let mut world = Self {
            peers: Peers::new(7),
            own,
            known,
            dead: BTreeSet::new(),
            up: BTreeSet::new(),
            now: start,
            dialled: Vec::new(),
            rtt_ms: None,
            wanted: BTreeSet::new(),
            start,
        };
        world.peers.handle(Input::Plane(true), start);
        world.tell();
        world
    }

    /// Of that many peers without relays.
    pub fn plain(count: u16) -> Self {
        Self::new(own(Role::Plain), (1..=count).map(known).collect())
    }

    /// Tells what is known, and decides.
    pub fn tell(&mut self) {
        self.peers.handle(Input::Known(self.own, self.known.clone()), self.now);
        self.decide();
    }

    pub fn decide(&mut self) {
        let changed = self.peers.decide(self.now);
        let wanted = self.wanted();
        assert_eq!(changed, wanted != self.wanted, "it says whether others are wanted");
        let after = self.now.since(self.start);
        self.dialled.extend(wanted.difference(&self.wanted).map(|number| (after, *number)));
        self.wanted = wanted;
        assert!(!self.peers.decide(self.now), "one call is enough");
        let due = self.peers.due(self.now).unwrap();
        assert!(due > self.now, "{due:?} at {:?}", self.now);
    }

    pub fn wanted(&self) -> BTreeSet<u16> {
        self.known
            .iter()
            .filter(|known| self.peers.wants(known.node))
            .map(|known| number(known.node))
            .collect()
    }

    pub fn view(&self, number: u16) -> View {
        self.peers.views(self.now)[&node(number)]
    }

    pub fn tier(&self, tier: Tier) -> Vec<u16> {
        let views = self.peers.views(self.now);
        views.iter().filter(|(_, view)| view.tier == tier).map(|(node, _)| number(*node)).collect()
    }

    pub fn because(&self, why: Why) -> Vec<u16> {
        let views = self.peers.views(self.now);
        views.iter().filter(|(_, view)| view.why == why).map(|(node, _)| number(*node)).collect()
    }

    pub fn in_state(&self, state: State) -> Vec<u16> {
        let views = self.peers.views(self.now);
        views.iter().filter(|(_, view)| view.state == state).map(|(node, _)| number(*node)).collect()
    }

    pub fn rise(&mut self, number: u16) {
        self.up.insert(number);
        self.peers.handle(Input::Up(node(number)), self.now);
        self.decide();
        if let Some(rtt_ms) = self.rtt_ms {
            self.measure(number, rtt_ms);
        }
    }

    pub fn fall(&mut self, number: u16) {
        self.up.remove(&number);
        self.peers.handle(Input::Down(node(number)), self.now);
        self.decide();
    }

    pub fn measure(&mut self, number: u16, rtt_ms: u32) {
        let measured = Measured { rtt_us: rtt_ms * 1000, loss_ppm: 0 };
        self.peers.handle(Input::Measured(node(number), measured), self.now);
        self.decide();
    }

    /// Dials what is wanted: who is not dead answers.
    pub fn answer(&mut self) {
        let due: Vec<u16> = self
            .wanted
            .iter()
            .copied()
            .filter(|number| !self.up.contains(number) && !self.dead.contains(number))
            .collect();
        due.into_iter().for_each(|number| self.rise(number));
        let gone: Vec<u16> = self.up.difference(&self.wanted).copied().collect();
        for number in gone {
            self.up.remove(&number);
            self.peers.handle(Input::Down(node(number)), self.now);
        }
        self.decide();
    }

    /// These do not answer any more: their links end.
    pub fn kill(&mut self, dead: impl IntoIterator<Item = u16>) {
        for number in dead {
            self.dead.insert(number);
            if self.up.contains(&number) {
                self.fall(number);
            }
        }
    }

    /// Time passes; dials are answered in steps of 50 ms.
    pub fn pass(&mut self, lasts: Duration) {
        let end = self.now.plus(lasts);
        while self.now < end {
            self.now = self.now.plus(Duration::from_millis(50)).min(end);
            self.decide();
            self.answer();
        }
    }

    pub fn pass_ms(&mut self, ms: u64) {
        self.pass(Duration::from_millis(ms));
    }
}
