//! Through which relays each peer is reached, and whom this node links because of it.
//!
//! Owns the paths of a table, and the position of each relay in it: one that comes or goes moves no other. Refuses to
//! own which way a packet takes: the data plane chooses.

use std::collections::BTreeMap;

use rap_trust::{Relay, Sense};
use rap_types::{NodeId, OrganizationId};
use rap_wire::v1::{TableLink, TablePath, TablePeer, TableRelay};

use super::homes::homes;

/// The relays of a snapshot as one node uses them. It saves work from one snapshot to the next.
#[derive(Debug, Default)]
pub struct Paths {
    own: Own,
    relays: Vec<Relay>,
    positions: Vec<NodeId>,
    /// Own homes that are dialled.
    homes: Vec<NodeId>,
    peers: BTreeMap<NodeId, Peer>,
}

/// What a data plane signs paths with: how long they live, and how often one was started on this host.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PathTerms {
    /// Seconds, 10 to 600; 0 is 600.
    pub lifetime_s: u32,
    /// Number of the data plane's start, from 1; 0 if none was started.
    pub instance: u32,
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

/// A peer, and the positions of the relays through which it is reached.
#[derive(Debug)]
struct Peer {
    organization: Option<OrganizationId>,
    region: String,
    through: [Option<u32>; 2],
}

impl Paths {
    /// Follows a snapshot.
    pub fn follow(&mut self, sense: &Sense) {
        let assignment = sense.assignment();
        let own = Own {
            node: NodeId::from_slice(&assignment.node_id).unwrap_or(NodeId::ZERO),
            organization: OrganizationId::from_slice(&assignment.organization_id).ok(),
            region: assignment.region.clone(),
            inbound: assignment.inbound,
        };
        if own != self.own || self.relays != sense.relays() {
            (self.own, self.relays) = (own, sense.relays().to_vec());
            self.place();
            let kept = if self.own.inbound { 1 } else { 2 };
            let own = homes(self.own.node, &self.own.region, self.relays.iter().collect());
            self.homes = own.into_iter().take(kept).map(|relay| relay.node).collect();
            self.peers.clear();
        }
        self.peers.retain(|node, _| sense.peer(*node).is_some());
        for (node, record) in sense.peers() {
            let organization = OrganizationId::from_slice(&record.organization_id).ok();
            let known = self.peers.get(&node);
            if known.is_some_and(|peer| peer.organization == organization && peer.region == record.region) {
                continue;
            }
            let through = self.through(node, organization, &record.region);
            self.peers.insert(node, Peer { organization, region: record.region.clone(), through });
        }
    }

    /// The first two homes of a peer that may carry between it and this node.
    fn through(&self, node: NodeId, organization: Option<OrganizationId>, region: &str) -> [Option<u32>; 2] {
        let serve = self.relays.iter().filter(|relay| relay.carries(organization, organization));
        let mut carry = homes(node, region, serve.collect()).into_iter().filter(|relay| {
            relay.node != self.own.node && relay.carries(self.own.organization, organization)
        });
        let mut next = || {
            let relay = carry.next()?.node;
            self.positions.iter().position(|at| *at == relay).and_then(|at| u32::try_from(at).ok())
        };
        [next(), next()]
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
    pub(super) fn duty(&self) -> Option<TableRelay> {
        let own = self.relays.iter().find(|relay| relay.node == self.own.node)?;
        Some(TableRelay {
            any_organization: own.organization.is_none(),
            draining: own.draining,
            attachments_max: 0,
        })
    }

    /// Whether there are relays for this node.
    pub(super) fn is_empty(&self) -> bool {
        self.relays.is_empty()
    }

    /// Marks the peers of a table: through whom they are reached, and which of them are dialled. A relay dials the
    /// relays that serve it and no plain node; a plain node dials its homes.
    pub(super) fn mark(&self, peers: &mut [TablePeer]) {
        let relays = self.duty().is_some();
        for entry in peers {
            let Some((node, peer)) =
                NodeId::from_slice(&entry.node_id).ok().and_then(|node| Some((node, self.peers.get(&node)?)))
            else {
                continue;
            };
            let [primary, backup] = peer.through.map(|at| at.map(|at| TablePath { relays: vec![at] }));
            (entry.primary, entry.backup) = (primary, backup);
            let dialled = if relays {
                let serves = |relay: &Relay| relay.carries(self.own.organization, self.own.organization);
                self.relays.iter().any(|relay| relay.node == node && serves(relay))
            } else {
                self.homes.contains(&node)
            };
            entry.link = if dialled { TableLink::Dial } else { TableLink::Accept }.into();
        }
    }
}
