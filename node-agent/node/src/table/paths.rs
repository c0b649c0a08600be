//! Through which relays each peer is reached, and whom this node links because of it.
//!
//! Owns the paths of a table, and the position of each relay in it: one that comes or goes moves no other. Refuses to
//! own which way a packet takes: the data plane chooses.

use std::collections::BTreeMap;

use rap_routing::{Decision, Destination, Engine, Explanation, Input, Lane, RelayFacts};
use rap_trust::{Relay, Restriction, Sense};
use rap_types::{Mono, NodeId, OrganizationId};
use rap_wire::v1::{PeerRecord, TableLink, TablePath, TablePeer, TableRelay};

use super::homes::homes;

/// The relays of a snapshot as one node uses them. It saves work from one snapshot to the next.
#[derive(Debug, Default)]
pub struct Paths {
    own: Own,
    relays: Vec<Relay>,
    told: Vec<RelayFacts>,
    positions: Vec<NodeId>,
    /// Own homes that are dialled.
    homes: Vec<NodeId>,
    peers: BTreeMap<NodeId, Peer>,
    engine: Option<Engine>,
}

/// What a data plane signs paths with: how long they live, and how often one was started on this host.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PathTerms {
    /// Seconds, 10 to 600; 0 is 600.
    pub lifetime_s: u32,
    /// Number of the data plane's start, from 1; 0 if none was started.
    pub instance: u32,
    /// Most links with nodes that are no relays, if this node is one; 0 is 512.
    pub attachments_max: u32,
}

/// What this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Own {
    node: NodeId,
    organization: Option<OrganizationId>,
    region: String,
    inbound: bool,
}

impl Default for Own {
    fn default() -> Self {
        Self { node: NodeId::ZERO, organization: None, region: String::new(), inbound: false }
    }
}

/// What the homes of a peer hang on.
#[derive(Debug, PartialEq, Eq)]
struct Peer {
    organization: Option<OrganizationId>,
    region: String,
    inbound: bool,
}

impl Peer {
    fn of(record: &PeerRecord) -> Self {
        Self {
            organization: OrganizationId::from_slice(&record.organization_id).ok(),
            region: record.region.clone(),
            inbound: !record.link_endpoints.is_empty(),
        }
    }
}

impl Paths {
    /// Follows a snapshot, and a trust set that is not in use yet.
    pub fn follow(&mut self, sense: &Sense, restriction: Option<&Restriction>, now: Mono) {
        let assignment = sense.assignment();
        let own = Own {
            node: NodeId::from_slice(&assignment.node_id).unwrap_or(NodeId::ZERO),
            organization: OrganizationId::from_slice(&assignment.organization_id).ok(),
            region: assignment.region.clone(),
            inbound: assignment.inbound,
        };
        if own != self.own || self.relays != sense.relays() {
            if own.node != self.own.node {
                self.engine = Some(Engine::new(seed(own.node)));
            }
            (self.own, self.relays) = (own, sense.relays().to_vec());
            self.place();
            let kept = if self.own.inbound { 1 } else { 2 };
            let own = homes(self.own.node, &self.own.region, self.relays.iter().collect());
            self.homes = own.into_iter().take(kept).map(|relay| relay.node).collect();
            self.peers.clear();
        }
        self.tell_relays(restriction, now);
        let gone = self.peers.extract_if(.., |node, _| sense.peer(*node).is_none());
        let mut inputs: Vec<Input> = gone.map(|(node, _)| Input::Gone(node)).collect();
        for (node, record) in sense.peers() {
            let peer = Peer::of(record);
            if self.peers.get(&node) == Some(&peer) {
                continue;
            }
            inputs.push(Input::Destination(Destination {
                node,
                organization: peer.organization,
                region: peer.region.clone(),
                homes: self.homes_of(node, &peer),
            }));
            self.peers.insert(node, peer);
        }
        for input in inputs {
            self.take(input, now);
        }
    }

    /// Takes what was measured.
    pub(crate) fn take(&mut self, input: Input, now: Mono) {
        if let Some(engine) = &mut self.engine {
            engine.handle(input, now);
        }
    }

    /// Decides what is due. True if something else holds for a peer now.
    pub fn decide(&mut self, now: Mono) -> bool {
        self.engine.as_mut().is_some_and(|engine| !engine.decide(now).is_empty())
    }

    /// When [`Self::decide`] is to be called.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.engine.as_ref()?.due()
    }

    /// What holds for a peer.
    pub(crate) fn decision(&self, node: NodeId) -> Option<Decision> {
        self.engine.as_ref()?.decision(node)
    }

    /// Why it holds, or what would be decided if these relays were down.
    pub(crate) fn explain(
        &self,
        node: NodeId,
        lane: Lane,
        down: &[NodeId],
        now: Mono,
    ) -> Option<Explanation> {
        self.engine.as_ref()?.explain(node, lane, down, now)
    }

    /// How many times a path was measured to take much longer than the relays on it say.
    pub(crate) fn disputed(&self) -> u64 {
        self.engine.as_ref().map_or(0, Engine::disputed)
    }

    /// Ids of the relays.
    pub(crate) fn relays(&self) -> impl Iterator<Item = NodeId> {
        self.relays.iter().map(|relay| relay.node)
    }

    /// The relays that may carry for this node, if they are others than those that were told last.
    fn tell_relays(&mut self, restriction: Option<&Restriction>, now: Mono) {
        let revoked = |node: NodeId| {
            let revoked = restriction.map_or(&[][..], |restriction| &restriction.trust.revoked);
            revoked.iter().any(|revoked| revoked.node_id == node.as_bytes())
        };
        let serves =
            self.relays.iter().filter(|relay| relay.carries(self.own.organization, self.own.organization));
        let facts = serves.map(|relay| RelayFacts {
            node: relay.node,
            organization: relay.organization,
            region: relay.region.clone(),
            draining: relay.draining,
            revoked: revoked(relay.node),
            kept: self.homes.contains(&relay.node),
        });
        let facts: Vec<RelayFacts> = facts.collect();
        if facts == self.told {
            return;
        }
        let own = rap_routing::Own {
            node: self.own.node,
            organization: self.own.organization,
            region: self.own.region.clone(),
        };
        self.told.clone_from(&facts);
        self.take(Input::Relays(own, facts), now);
    }

    /// The relays that reach a peer, from its first home on: those that it keeps links with, and if relays can dial it,
    /// one more.
    fn homes_of(&self, node: NodeId, peer: &Peer) -> Vec<NodeId> {
        let serve = self.relays.iter().filter(|relay| relay.carries(peer.organization, peer.organization));
        let carry = homes(node, &peer.region, serve.collect()).into_iter().filter(|relay| {
            relay.node != self.own.node && relay.carries(self.own.organization, peer.organization)
        });
        carry.take(if peer.inbound { 3 } else { 2 }).map(|relay| relay.node).collect()
    }

    /// Gives every relay a position: the one it had, one that a relay left, or the next.
    fn place(&mut self) {
        let is_relay = |node: &NodeId| self.relays.iter().any(|relay| relay.node == *node);
        let mut free: Vec<usize> =
            (0..self.positions.len()).rev().filter(|at| !is_relay(&self.positions[*at])).collect();
        for relay in &self.relays {
            if self.positions.contains(&relay.node) {
                continue;
            }
            match free.pop() {
                Some(at) => self.positions[at] = relay.node,
                None => self.positions.push(relay.node),
            }
        }
    }

    /// Ids of the relays by position.
    pub(super) fn positions(&self) -> Vec<Vec<u8>> {
        self.positions.iter().map(|node| node.to_vec()).collect()
    }

    /// What this node carries for others; `None` for nothing.
    pub(super) fn duty(&self, terms: PathTerms) -> Option<TableRelay> {
        let own = self.relays.iter().find(|relay| relay.node == self.own.node)?;
        Some(TableRelay {
            any_organization: own.organization.is_none(),
            draining: own.draining,
            attachments_max: terms.attachments_max,
        })
    }

    /// Whether there are relays for this node.
    pub(super) fn is_empty(&self) -> bool {
        self.relays.is_empty()
    }

    /// Marks the peers of a table: through whom they are reached, and which of them are dialled. A relay dials the
    /// relays that serve it and no plain node; a plain node dials its homes.
    pub(super) fn mark(&self, peers: &mut [TablePeer]) {
        let relays = self.relays.iter().any(|relay| relay.node == self.own.node);
        for entry in peers {
            let Ok(node) = NodeId::from_slice(&entry.node_id) else { continue };
            let Some(decision) = self.decision(node) else { continue };
            (entry.primary, entry.backup) = (self.path(&decision.primary), self.path(&decision.backup));
            let dialled = if relays {
                let serves = |relay: &Relay| relay.carries(self.own.organization, self.own.organization);
                self.relays.iter().any(|relay| relay.node == node && serves(relay))
            } else {
                self.homes.contains(&node)
            };
            entry.link = if dialled { TableLink::Dial } else { TableLink::Accept }.into();
        }
    }

    /// A path in the words of a table; `None`: there is none.
    fn path(&self, relays: &[NodeId]) -> Option<TablePath> {
        let position = |relay: &NodeId| self.positions.iter().position(|at| at == relay);
        let relays: Option<Vec<u32>> =
            relays.iter().map(|relay| position(relay).and_then(|at| u32::try_from(at).ok())).collect();
        relays.filter(|relays| !relays.is_empty()).map(|relays| TablePath { relays })
    }
}

/// Nodes move in different orders.
fn seed(node: NodeId) -> u64 {
    node.as_bytes().iter().fold(0, |seed: u64, byte| seed.rotate_left(8) ^ u64::from(*byte))
}
