//! What dishonest nodes send: copies of requests, installs that nobody should take, labels of others, and floods.

use rand::RngExt as _;
use rap_contract::{PathInstall, PathNext};
use rap_link::FrameKind;
use rap_link::path::{request_payload, wireguard_payload};
use rap_types::NodeId;
use rap_wire::v1::LinkLane;

use super::happening::{Carried, Data, Happening};
use super::hub::Fabric;
use super::leaf::Leaf;
use super::node::LIFETIME_S;
use crate::events::Event;

impl Fabric {
    /// One deceit by `one`, or against `relay`.
    pub fn deceive(&mut self, one: NodeId, relay: NodeId) {
        let linked = self.linked_relay(one).unwrap_or(relay);
        match self.random.random_range(0..24) {
            0..8 => {
                // The older ones are of paths that are over.
                let at = self.random.random_range(0..(self.heard.len() / 2).max(1));
                if let Some((from, to, payload)) = self.heard.get(at).cloned() {
                    self.inject(Event::InstallReplayed, from, to, payload);
                }
            }
            8..12 => self.replay_by_another(),
            12..16 => self.foreign_label(relay),
            16..18 => self.crafted(Event::InstallForged, one, linked, None),
            18..20 => self.crafted(Event::InstallLooped, one, linked, Some(one)),
            20..22 => self.stranger(),
            _ => self.flood(one, linked),
        }
    }

    /// A relay that the node has a link with.
    fn linked_relay(&mut self, node: NodeId) -> Option<NodeId> {
        let links = self.nodes.get(&node)?.plane.as_ref()?.links.keys();
        let relays: Vec<_> =
            links.filter(|peer| self.relays().any(|relay| relay == **peer)).copied().collect();
        let at = self.random.random_range(0..relays.len().max(1));
        relays.get(at).copied()
    }

    /// A neighbour of a hop sends it a request that another one sent.
    fn replay_by_another(&mut self) {
        let at = self.random.random_range(0..self.heard.len().max(1));
        let Some((from, to, payload)) = self.heard.get(at).cloned() else { return };
        let links = self.plane(to).map(|plane| plane.links.keys().copied().collect::<Vec<_>>());
        let others: Vec<_> = links.unwrap_or_default().into_iter().filter(|other| *other != from).collect();
        let at = self.random.random_range(0..others.len().max(1));
        if let Some(other) = others.get(at) {
            self.inject(Event::InstallReplayedByAnother, *other, to, payload);
        }
    }

    /// A message that `from` did not send of its own accord.
    fn inject(&mut self, event: Event, from: NodeId, to: NodeId, payload: Vec<u8>) {
        let link = self.plane(from).and_then(|plane| plane.links.get(&to).copied());
        let Some(connection) = link else { return };
        self.counts.add(event);
        let carried = Carried::Message(FrameKind::PathRequest, payload);
        self.queue.push(self.now.mono, Happening::Frame { from, to, connection, carried });
    }

    /// A neighbour of a relay uses a label that belongs to another one.
    fn foreign_label(&mut self, relay: NodeId) {
        let Some(plane) = self.plane(relay) else { return };
        let links = plane.links.clone();
        let at = self.random.random_range(0..links.len().max(1));
        let Some((from, connection)) = links.into_iter().nth(at) else { return };
        let label = self.plane(relay).and_then(|plane| plane.ledger.label_of_another(from));
        let (Some((_, label)), Ok(payload)) = (label, wireguard_payload(b"of another")) else { return };
        let data = Data {
            label,
            hop_budget: 4,
            payload,
            maker: from,
            passed: Vec::new(),
            touched: true,
            foreign: true,
        };
        let carried = Carried::Data(data);
        self.queue.push(self.now.mono, Happening::Frame { from, to: relay, connection, carried });
    }

    /// A first install by `source` for `relay`, as no honest source makes it: signed by another key, or with a node twice.
    fn crafted(&mut self, event: Event, source: NodeId, relay: NodeId, next: Option<NodeId>) {
        let destination = self.nodes.keys().copied().find(|node| *node != source && *node != relay);
        let (Some(destination), true) = (destination, source != relay) else { return };
        let install = self.install(source, destination, next.unwrap_or(destination), u64::MAX - 1);
        let Some(own) = self.leaves.get(&source) else { return };
        let other = Leaf::of(destination);
        let signed = if next.is_none() { other.sign(&install, relay) } else { own.sign(&install, relay) };
        // Only the number of those behind it counts.
        let payload = request_payload(self.last_number, &own.text, vec![signed, Vec::new()]);
        self.inject(event, source, relay, payload);
    }

    /// A relay of the platform wants a customer's relay to carry between it and another one of the platform.
    fn stranger(&mut self) {
        let owned = |fabric: &Self, node: &NodeId| fabric.nodes[node].facts.terms.organization.is_some();
        let relays: Vec<_> = self.relays().collect();
        let (customers, platform): (Vec<_>, Vec<_>) =
            relays.into_iter().partition(|relay| owned(self, relay));
        let [source, destination, ..] = platform.as_slice() else { return };
        let at = self.random.random_range(0..customers.len().max(1));
        let Some(carrier) = customers.get(at).copied() else { return };
        let install = self.install(*source, *destination, *destination, u64::MAX - 1);
        let Some(own) = self.leaves.get(source) else { return };
        let payload =
            request_payload(self.last_number, &own.text, vec![own.sign(&install, carrier), Vec::new()]);
        self.inject(Event::InstallThroughAStranger, *source, carrier, payload);
    }

    /// More sound installs than a source may have.
    fn flood(&mut self, source: NodeId, relay: NodeId) {
        let Some(node) = self.nodes.get(&source) else { return };
        let known: Vec<_> = node.facts.terms.known.keys().copied().collect();
        let instance = u64::from(node.instance) << 32;
        let destination = known.into_iter().find(|node| *node != relay);
        let (Some(destination), true) = (destination, source != relay) else { return };
        for turn in 0..FLOOD {
            let install = self.install(source, destination, destination, instance | (1 << 20) | turn);
            let Some(own) = self.leaves.get(&source) else { return };
            let payload =
                request_payload(self.last_number, &own.text, vec![own.sign(&install, relay), Vec::new()]);
            self.inject(Event::InstallFlood, source, relay, payload);
        }
    }

    /// An install of the first of two hops.
    fn install(&mut self, source: NodeId, destination: NodeId, next: NodeId, generation: u64) -> PathInstall {
        let mut label = || self.random.random_range(1..u64::MAX);
        let (in_label, back_out_label, out_label, back_in_label) = (label(), label(), label(), label());
        let path_id = std::array::from_fn(|_| self.random.random());
        self.number();
        PathInstall {
            path_id,
            lane: LinkLane::C,
            generation,
            source,
            destination,
            organization: None,
            position: 1,
            length: 2,
            previous: source,
            in_label,
            back_out_label,
            next: Some(PathNext { node: next, out_label, back_in_label }),
            rate_kbit: 0,
            lifetime_s: LIFETIME_S,
            issued_at: self.now.wall,
        }
    }
}

/// Installs at once.
const FLOOD: u64 = 150;
