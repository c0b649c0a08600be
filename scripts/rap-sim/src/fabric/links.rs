//! Connections between neighbours: who dials, when both know of one, and when each finds out that it is dead.
//!
//! Stands for the sessions of links. Owns that the two ends of a connection may believe different things for a while.

use anyhow::Result;
use rand::RngExt as _;
use rap_link::FrameKind;
use rap_types::NodeId;

use super::frames::word;
use super::happening::{Carried, Happening, Waiting};
use super::hub::Fabric;
use crate::events::Event;

impl Fabric {
    /// A node looks whom it wants a link with.
    pub fn look_at_links(&mut self, me: NodeId, life: u32) {
        let now = self.now.mono;
        let Some(node) = self.nodes.get_mut(&me).filter(|node| node.life == life) else { return };
        let Some(plane) = node.plane.as_mut() else { return };
        plane.wanted.retain(|_, until| *until > now);
        let wanted = node.facts.dialled.iter().chain(plane.wanted.keys());
        let missing: Vec<_> = wanted.filter(|peer| !plane.links.contains_key(peer)).copied().collect();
        for peer in missing {
            self.dial(me, peer);
        }
        let again = self.after(500, 900);
        self.queue.push(again, Happening::Links(me, life));
    }

    /// Tries to connect; the connection stands after three times the way.
    pub fn dial(&mut self, me: NodeId, peer: NodeId) {
        if self.may_connect(me, peer) {
            let at = self.now.mono.plus(self.wire.delay(me, peer) * 3);
            self.queue.push(at, Happening::LinkUp(me, peer));
        }
    }

    fn may_connect(&self, me: NodeId, peer: NodeId) -> bool {
        let runs = |node: NodeId| self.nodes.get(&node).is_some_and(|node| node.runs(self.now.mono));
        let knows = |one: NodeId, other: NodeId| {
            let facts = self.nodes.get(&one).map(|node| &node.facts);
            facts.is_some_and(|facts| {
                facts.terms.known.contains_key(&other) && !facts.revoked.contains_key(&other)
            })
        };
        self.wire.inbound.contains(&peer)
            && self.wire.connects(me, peer)
            && runs(me)
            && runs(peer)
            && knows(me, peer)
            && knows(peer, me)
    }

    pub fn link_up(&mut self, me: NodeId, peer: NodeId) -> Result<()> {
        let linked = self.plane(me).is_none_or(|plane| plane.links.contains_key(&peer));
        if linked || !self.may_connect(me, peer) {
            return Ok(());
        }
        let connection = self.number();
        self.counts.add(Event::LinkUp);
        self.trail.add(&[2, self.now.mono.0, word(me), word(peer)]);
        // The other end may still believe in an older one.
        if self.plane(peer).is_some_and(|plane| plane.links.contains_key(&me)) {
            self.counts.add(Event::LinkReplaced);
            if self.random.random_bool(0.5) {
                self.drop_link(peer, me)?;
            }
        }
        for (one, other) in [(me, peer), (peer, me)] {
            if let Some(plane) = self.plane(one) {
                plane.links.insert(other, connection);
            }
        }
        for (one, other) in [(me, peer), (peer, me)] {
            self.at(one, |core, inputs| core.link_up(other, inputs))?;
            self.send_waiting(one, other);
        }
        Ok(())
    }

    fn send_waiting(&mut self, at: NodeId, to: NodeId) {
        let (ready, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .filter(|waiting| waiting.until > self.now.mono)
            .partition(|waiting| (waiting.at, waiting.to) == (at, to));
        self.waiting = rest;
        for Waiting { request, payload, .. } in ready {
            if self.plane(at).is_some_and(|plane| plane.core.is_open(to, request)) {
                self.transmit(at, to, Carried::Message(FrameKind::PathRequest, payload));
            }
        }
    }

    /// The time for the link of a request is over.
    pub fn not_linked(&mut self, at: NodeId, to: NodeId, request: u64, life: u32) -> Result<()> {
        let waits = |waiting: &Waiting| (waiting.at, waiting.to, waiting.request) == (at, to, request);
        let found = self.waiting.iter().position(waits);
        if found.map(|found| self.waiting.swap_remove(found)).is_none()
            || self.nodes.get(&at).is_none_or(|node| node.life != life)
        {
            return Ok(());
        }
        self.not_passed(at, to, request)
    }

    /// An end looks whether its connection is dead.
    pub fn link_dead(&mut self, at: NodeId, peer: NodeId, connection: u64) -> Result<()> {
        let has = |fabric: &mut Self, one, other| {
            fabric.plane(one).is_some_and(|plane| plane.links.get(&other) == Some(&connection))
        };
        if has(self, at, peer) && !(self.wire.connects(at, peer) && has(self, peer, at)) {
            self.drop_link(at, peer)?;
        }
        Ok(())
    }

    /// An end gives its connection up. The other one hears of it, if it can.
    pub fn drop_link(&mut self, at: NodeId, peer: NodeId) -> Result<()> {
        let Some(plane) = self.plane(at) else { return Ok(()) };
        let Some(connection) = plane.links.remove(&peer) else { return Ok(()) };
        plane.ledger.lost(peer);
        self.counts.add(Event::LinkLost);
        self.trail.add(&[3, self.now.mono.0, word(at), word(peer)]);
        self.end_heard(peer, at, connection);
        self.at(at, |core, inputs| core.link_lost(peer, inputs)).map(drop)
    }

    /// When an end finds out that the other one ended their connection.
    pub fn end_heard(&mut self, at: NodeId, peer: NodeId, connection: u64) {
        let heard = if self.wire.reaches(peer, at) {
            self.now.mono.plus(self.wire.delay(peer, at))
        } else {
            self.after(300, 6_000)
        };
        self.queue.push(heard, Happening::LinkDead(at, peer, connection));
    }

    /// Cuts or heals one direction. Both ends of a connection find out by themselves.
    pub fn cut(&mut self, from: NodeId, to: NodeId, cut: bool) {
        self.wire.cut(from, to, cut);
        if !cut {
            return;
        }
        for (one, other) in [(from, to), (to, from)] {
            let link = self.plane(one).and_then(|plane| plane.links.get(&other).copied());
            if let Some(connection) = link {
                let at = self.after(300, 6_000);
                self.queue.push(at, Happening::LinkDead(one, other, connection));
            }
        }
    }
}
