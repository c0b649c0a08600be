//! What goes wrong: faults of lines and processes, each with its end.

use std::time::Duration;

use anyhow::Result;
use rand::RngExt as _;
use rap_types::{Mono, NodeId};

use super::happening::Happening;
use super::hub::Fabric;
use super::node::{Conduct, Plane};
use crate::events::Event;

/// A fault that lasts.
#[derive(Debug)]
pub enum Effect {
    /// Directions that are cut.
    Cut(Vec<(NodeId, NodeId)>),
    Lossy(NodeId, NodeId),
    Slow(NodeId, NodeId),
    /// A relay that is not honest.
    Conduct(NodeId),
    /// A process that does not run.
    Dead(NodeId),
}

impl Fabric {
    /// One fault, and the time of the next.
    pub fn fault(&mut self) {
        if !self.storm {
            return;
        }
        let next = self.after(100, 900);
        self.queue.push(next, Happening::Fault);
        let (Some(one), Some(relay)) = (self.any(), self.any_relay()) else { return };
        match self.random.random_range(0..100) {
            0..15 => self.cut_for(Event::LineCut, vec![(one, relay), (relay, one)]),
            15..20 => self.cut_for(Event::LineCutOneWay, vec![(one, relay)]),
            20..25 => self.cut_for(Event::LineCutOneWay, vec![(relay, one)]),
            25..30 => {
                self.counts.add(Event::LineFlapped);
                self.queue.push(self.now.mono, Happening::Flap(one, relay, 5));
            }
            30..34 => self.partition(),
            34..44 => {
                self.counts.add(Event::LineLossy);
                let loss = self.random.random_range(0.02..0.3);
                self.wire.set_loss(one, relay, loss);
                self.last_for(Effect::Lossy(one, relay), 2_000, 20_000);
            }
            44..50 => {
                self.counts.add(Event::LineSlow);
                let slow = Duration::from_millis(self.random.random_range(20..400));
                self.wire.set_slow(one, relay, slow);
                self.wire.set_slow(relay, one, slow);
                self.last_for(Effect::Slow(one, relay), 2_000, 20_000);
            }
            50..60 => {
                let node = if self.random.random_bool(0.5) { one } else { relay };
                self.kill(node);
            }
            60..66 => {
                let node = if self.random.random_bool(0.5) { one } else { relay };
                self.stop(node);
            }
            66..76 => {
                let conduct = match self.random.random_range(0..3) {
                    0 => Conduct::Swallows,
                    1 => Conduct::Modifies,
                    _ => Conduct::Splices,
                };
                if let Some(node) = self.nodes.get_mut(&relay) {
                    node.conduct = conduct;
                }
                self.last_for(Effect::Conduct(relay), 3_000, 20_000);
            }
            _ => self.deceive(one, relay),
        }
    }

    fn any(&mut self) -> Option<NodeId> {
        let at = self.random.random_range(0..self.nodes.len().max(1));
        self.nodes.keys().nth(at).copied()
    }

    fn any_relay(&mut self) -> Option<NodeId> {
        let relays: Vec<_> = self.relays().collect();
        let at = self.random.random_range(0..relays.len().max(1));
        relays.get(at).copied()
    }

    pub fn relays(&self) -> impl Iterator<Item = NodeId> {
        let relays = self.nodes.iter().filter(|(_, node)| node.facts.terms.carries.is_some());
        relays.map(|(node, _)| *node)
    }

    fn cut_for(&mut self, event: Event, lines: Vec<(NodeId, NodeId)>) {
        self.counts.add(event);
        self.cut_lines(lines, 500, 30_000);
    }

    fn cut_lines(&mut self, lines: Vec<(NodeId, NodeId)>, shortest_ms: u64, longest_ms: u64) {
        for (from, to) in &lines {
            self.cut(*from, *to, true);
        }
        self.last_for(Effect::Cut(lines), shortest_ms, longest_ms);
    }

    pub fn flap(&mut self, one: NodeId, other: NodeId, more: u32) {
        self.cut_lines(vec![(one, other), (other, one)], 100, 250);
        if more > 0 {
            let again = self.after(300, 500);
            self.queue.push(again, Happening::Flap(one, other, more - 1));
        }
    }

    fn partition(&mut self) {
        let nodes: Vec<_> = self.nodes.keys().copied().collect();
        let (left, right): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|_| self.random.random_bool(0.5));
        let lines =
            left.iter().flat_map(|one| right.iter().flat_map(|other| [(*one, *other), (*other, *one)]));
        self.cut_for(Event::Partitioned, lines.collect());
    }

    /// The process of a node is killed. Who had a connection with it finds out, and it starts again.
    fn kill(&mut self, me: NodeId) {
        let Some(plane) = self.nodes.get_mut(&me).and_then(|node| node.plane.take()) else { return };
        self.counts.add(Event::PlaneKilled);
        for (peer, connection) in plane.links {
            self.end_heard(peer, me, connection);
        }
        self.waiting.retain(|waiting| waiting.at != me);
        self.last_for(Effect::Dead(me), 300, 8_000);
    }

    /// The process of a node starts, with the table that its agent has.
    pub fn start(&mut self, me: NodeId) -> Result<()> {
        let now = self.now.mono;
        // The record of starts got lost now and then: then hops know higher generations than the node.
        let lost = self.storm && self.random.random_bool(0.1);
        let Some(node) = self.nodes.get_mut(&me).filter(|node| node.plane.is_none()) else { return Ok(()) };
        node.starts += 1;
        node.life = node.starts;
        node.instance = if lost { 1 } else { node.instance + 1 };
        node.plane = Some(Plane::new(me, node.life, now));
        node.stopped = now;
        if lost {
            self.counts.add(Event::InstanceLost);
        }
        let life = node.life;
        self.put_in_force(me)?;
        self.queue.push(now, Happening::Links(me, life));
        Ok(())
    }

    /// The process of a node does nothing for a while; its kernel goes on.
    fn stop(&mut self, me: NodeId) {
        self.counts.add(Event::PlaneStopped);
        // Now and then for longer than its paths live.
        let until =
            if self.random.random_bool(0.2) { self.after(20_000, 26_000) } else { self.after(200, 5_000) };
        if let Some(node) = self.nodes.get_mut(&me) {
            node.stopped = until;
        }
    }

    fn last_for(&mut self, effect: Effect, shortest_ms: u64, longest_ms: u64) {
        let name = self.number();
        self.effects.insert(name, effect);
        let end = self.after(shortest_ms, longest_ms);
        self.queue.push(end, Happening::End(name));
    }

    pub fn end_effect(&mut self, name: u64) -> Result<()> {
        match self.effects.remove(&name) {
            Some(effect) => self.undo(effect),
            None => Ok(()),
        }
    }

    fn undo(&mut self, effect: Effect) -> Result<()> {
        match effect {
            Effect::Cut(lines) => lines.into_iter().for_each(|(from, to)| self.cut(from, to, false)),
            Effect::Lossy(from, to) => self.wire.set_loss(from, to, 0.0),
            Effect::Slow(one, other) => {
                self.wire.set_slow(one, other, Duration::ZERO);
                self.wire.set_slow(other, one, Duration::ZERO);
            }
            Effect::Conduct(node) => {
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.conduct = Conduct::Honest;
                }
            }
            Effect::Dead(node) => self.start(node)?,
        }
        Ok(())
    }

    pub fn swallows(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.conduct == Conduct::Swallows)
    }

    /// Faults begin.
    pub fn begin_storm(&mut self) -> Result<()> {
        for effect in std::mem::take(&mut self.kept) {
            self.undo(effect)?;
        }
        self.storm = true;
        self.queue.push(self.now.mono, Happening::Fault);
        Ok(())
    }

    /// Nothing new goes wrong. Some of what is broken stays so: traffic must go around it.
    pub fn end_storm(&mut self) -> Result<()> {
        self.storm = false;
        for effect in std::mem::take(&mut self.effects).into_values() {
            let stays = match &effect {
                Effect::Cut(_) | Effect::Dead(_) => 0.2,
                Effect::Conduct(node) if self.swallows(*node) => 0.5,
                _ => 0.0,
            };
            if self.random.random_bool(stays) {
                self.kept.push(effect);
            } else {
                self.undo(effect)?;
            }
        }
        for node in self.nodes.values_mut() {
            node.stopped = Mono(node.stopped.0.min(self.now.mono.0));
        }
        Ok(())
    }
}
