//! What a node remembers of peers and routes from one start to the next: bounded, and checked against the snapshot.
//!
//! Owns the bounds and what is not on disk yet. Refuses to own the disk.

use std::collections::{BTreeMap, BTreeSet};

use rap_types::{NodeId, Wall};

use crate::rows::{PeerRow, RouteRow};

/// Most peers that are remembered: about 150 KiB.
pub const PEERS_MAX: usize = 1024;
/// Most destinations whose ways are remembered.
pub const ROUTES_MAX: usize = 256;

/// One change of what is on disk; `None` removes the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheChange {
    /// A peer.
    Peer(NodeId, Option<Vec<u8>>),
    /// A route.
    Route(NodeId, Option<Vec<u8>>),
}

/// What is remembered.
#[derive(Debug, Clone, Default)]
pub struct PeerCache {
    peers: BTreeMap<NodeId, PeerRow>,
    routes: BTreeMap<NodeId, RouteRow>,
    changed_peers: BTreeSet<NodeId>,
    changed_routes: BTreeSet<NodeId>,
}

impl PeerCache {
    /// What the disk has, by node id. Rows that cannot be read are removed with the next changes.
    pub fn load(peers: Vec<(NodeId, Vec<u8>)>, routes: Vec<(NodeId, Vec<u8>)>) -> Self {
        let mut cache = Self::default();
        for (node, bytes) in peers {
            match PeerRow::decode(&bytes) {
                Some(row) => drop(cache.peers.insert(node, row)),
                None => drop(cache.changed_peers.insert(node)),
            }
        }
        for (node, bytes) in routes {
            match RouteRow::decode(&bytes) {
                Some(row) => drop(cache.routes.insert(node, row)),
                None => drop(cache.changed_routes.insert(node)),
            }
        }
        cache.bound();
        cache
    }

    /// Drops what the verified snapshot does not bear out. `is_of` says whether a row is of the identity that the
    /// snapshot has for this node, `is_relay` whether a node may carry.
    pub fn verify(&mut self, is_of: impl Fn(NodeId, &PeerRow) -> bool, is_relay: impl Fn(NodeId) -> bool) {
        let gone = self.peers.extract_if(.., |node, row| !is_of(*node, row));
        self.changed_peers.extend(gone.map(|(node, _)| node));
        let gone = self.routes.extract_if(.., |_, row| !row.relays.iter().all(|relay| is_relay(*relay)));
        self.changed_routes.extend(gone.map(|(node, _)| node));
    }

    /// Forgets routes to nodes that are unknown now.
    pub fn retain_routes(&mut self, is_known: impl Fn(NodeId) -> bool) {
        let gone = self.routes.extract_if(.., |node, _| !is_known(*node));
        self.changed_routes.extend(gone.map(|(node, _)| node));
    }

    /// A link with a peer stood.
    pub fn succeeded(&mut self, node: NodeId, mut row: PeerRow) {
        let before = self.peers.get(&node);
        let reliability = before.map_or(1000, |before| before.reliability_permille);
        row.reliability_permille = reliability + (1000 - reliability.min(1000)).div_ceil(8);
        if row.endpoint.is_empty()
            && let Some(before) = before
        {
            row.endpoint.clone_from(&before.endpoint);
        }
        if before != Some(&row) {
            self.peers.insert(node, row);
            self.changed_peers.insert(node);
            self.bound();
        }
    }

    /// An attempt failed, or a link broke.
    pub fn failed(&mut self, node: NodeId) {
        if let Some(row) = self.peers.get_mut(&node) {
            row.reliability_permille -= row.reliability_permille.div_ceil(8);
            self.changed_peers.insert(node);
        }
    }

    /// Traffic to a destination went this way. The time alone is written from minute to minute.
    pub fn used(&mut self, destination: NodeId, route: RouteRow) {
        let before = self.routes.get(&destination);
        let told = before.is_some_and(|before| {
            before.relays == route.relays && route.used_at.since(before.used_at).as_secs() < 60
        });
        if !told {
            self.routes.insert(destination, route);
            self.changed_routes.insert(destination);
            self.bound();
        }
    }

    /// What is remembered of a peer.
    pub fn peer(&self, node: NodeId) -> Option<&PeerRow> {
        self.peers.get(&node)
    }

    /// All peers.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, &PeerRow)> {
        self.peers.iter().map(|(node, row)| (*node, row))
    }

    /// All routes.
    pub fn routes(&self) -> impl Iterator<Item = (NodeId, &RouteRow)> {
        self.routes.iter().map(|(node, row)| (*node, row))
    }

    /// Whether something is not on disk yet.
    pub fn is_changed(&self) -> bool {
        !self.changed_peers.is_empty() || !self.changed_routes.is_empty()
    }

    /// Takes out what is to be written, at most so many rows.
    pub fn take_changes(&mut self, most: usize) -> Vec<CacheChange> {
        let mut changes = Vec::new();
        while changes.len() < most
            && let Some(node) = self.changed_peers.pop_first()
        {
            changes.push(CacheChange::Peer(node, self.peers.get(&node).map(PeerRow::encode)));
        }
        while changes.len() < most
            && let Some(node) = self.changed_routes.pop_first()
        {
            changes.push(CacheChange::Route(node, self.routes.get(&node).map(RouteRow::encode)));
        }
        changes
    }

    /// The rows that were used longest ago go.
    fn bound(&mut self) {
        while self.peers.len() > PEERS_MAX {
            let oldest = oldest(self.peers.iter().map(|(node, row)| (row.last_success_at, *node)));
            self.changed_peers.extend(oldest.filter(|node| self.peers.remove(node).is_some()));
        }
        while self.routes.len() > ROUTES_MAX {
            let oldest = oldest(self.routes.iter().map(|(node, row)| (row.used_at, *node)));
            self.changed_routes.extend(oldest.filter(|node| self.routes.remove(node).is_some()));
        }
    }
}

fn oldest(rows: impl Iterator<Item = (Wall, NodeId)>) -> Option<NodeId> {
    rows.min_by_key(|(at, node)| (at.0, *node)).map(|(_, node)| node)
}
