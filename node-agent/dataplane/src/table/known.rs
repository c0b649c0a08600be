//! The table in force as this process keeps it: a change is applied to it, and the devices are told what follows.
//!
//! Owns how a change fits: based on exactly the version in force, or refused with a code that makes the agent send
//! a whole table. Either all of a table or a change is taken, or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use rap_runtime::Fault;
use rap_runtime::tls::ClusterTrust;
use rap_types::{NodeId, Reason, limits};
use rap_wire::v1::{ForwardingTable, TableDelta, TablePeer};
use rap_wireguard::DeviceConfig;

use crate::bounds::Bounds;

use super::field::{ensure, id, refused, too_large};
use super::header::Header;
use super::member::Member;
use super::peer::KnownPeer;
use super::plan::{PeerFacts, Plan};
use super::revocations::{self, LearnedRevocations, Revoked};

/// A table that was read as a whole. Cheap to clone: header and peers are shared.
#[derive(Clone)]
pub(crate) struct KnownTable {
    version: u64,
    header: Arc<Header>,
    peers: BTreeMap<NodeId, Arc<KnownPeer>>,
    revoked: Revoked,
}

impl KnownTable {
    /// Reads a whole table; any fault in it refuses it all.
    pub(crate) fn whole(mut table: ForwardingTable, bounds: &Bounds) -> Result<Self, Fault> {
        let version = table.version;
        let (peers, revoked) = (std::mem::take(&mut table.peers), std::mem::take(&mut table.revoked));
        within(peers.len(), revoked.len())?;
        let header = Arc::new(Header::read(table, bounds)?);
        let mut known =
            Self { version, header, peers: BTreeMap::new(), revoked: revocations::read(&revoked)? };
        for peer in peers {
            if let Some(node) = known.put(peer, bounds)? {
                return Err(refused(format!("peer {node}: appears twice")));
            }
        }
        Ok(known)
    }

    /// The table that a change makes of this one.
    pub(crate) fn changed(&self, delta: TableDelta, bounds: &Bounds) -> Result<Self, Fault> {
        let TableDelta { base_version, version, header, peers, removed, revoked } = delta;
        if base_version != self.version {
            return Err(based(format!("based on version {base_version}, {} is in force", self.version)));
        }
        let mut next = Self { version, ..self.clone() };
        if let Some(header) = header {
            next.header = Arc::new(Header::read(header, bounds)?);
        }
        for node in &removed {
            let node = id(NodeId::from_slice(node), "removed: node_id")?;
            // The agent has another table in mind.
            next.peers.remove(&node).ok_or_else(|| based(format!("removed peer {node} is not there")))?;
        }
        for peer in peers {
            next.put(peer, bounds)?;
        }
        for (node, generation) in revocations::read(&revoked)? {
            revocations::add(&mut next.revoked, node, generation);
        }
        within(next.peers.len(), next.revoked.len())?;
        Ok(next)
    }

    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn member(&self) -> Member {
        self.header.member
    }

    pub(crate) const fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    pub(crate) fn is_peer(&self, node: NodeId) -> bool {
        self.peers.contains_key(&node)
    }

    #[cfg(test)]
    pub(super) fn peer(&self, node: NodeId) -> Option<&KnownPeer> {
        self.peers.get(&node).map(Arc::as_ref)
    }

    /// What the devices are told. Peers whose key generation is revoked are left out.
    pub(crate) fn plan(&self, learned: &LearnedRevocations) -> Plan {
        let header = &*self.header;
        let revoked = learned.with(&self.revoked);
        let mut device = DeviceConfig {
            addresses: header.addresses.clone(),
            routed: header.routed.clone(),
            control: header.control.clone(),
            peers: Vec::with_capacity(self.peers.len()),
            deadline: header.deadlines.of_tunnels(),
        };
        let (mut links, mut facts) = (BTreeMap::new(), Vec::with_capacity(self.peers.len()));
        for (node, peer) in &self.peers {
            if revoked.get(node).is_some_and(|generation| peer.key_generation <= *generation) {
                tracing::warn!(%node, "a peer in the table is revoked: left out");
                continue;
            }
            let address = peer.ping_address(&header.addresses);
            facts.push(PeerFacts { node: *node, key: peer.key, address });
            if let Some(linked) = peer.for_mesh(header.deadlines).filter(|_| header.leaf.is_some()) {
                links.insert(*node, linked);
            }
            device.peers.extend(peer.for_device(header.deadlines));
        }
        let authorities = header.leaf.iter().map(|leaf| leaf.authority().clone()).collect();
        let trust = ClusterTrust { installation: header.member.installation, authorities, revoked };
        Plan {
            version: self.version,
            member: header.member,
            private_key: header.private_key.clone(),
            mtu: header.mtu,
            device,
            leaf: header.leaf.clone(),
            links: rap_mesh::Peers {
                peers: links,
                trust,
                newest_head: header.newest_head.clone(),
                probe_interval: header.probe_interval,
            },
            peers: facts,
        }
    }

    /// Adds a peer, or replaces it: then says which.
    fn put(&mut self, peer: TablePeer, bounds: &Bounds) -> Result<Option<NodeId>, Fault> {
        let peer = KnownPeer::read(peer, bounds)?;
        let node = peer.node;
        ensure(node != self.header.member.node, || format!("peer {node}: is this node"))?;
        Ok(self.peers.insert(node, Arc::new(peer)).map(|_| node))
    }
}

fn within(peers: usize, revoked: usize) -> Result<(), Fault> {
    if peers > limits::TABLE_PEERS_MAX {
        return Err(too_large("peers", limits::TABLE_PEERS_MAX));
    }
    if revoked > limits::TABLE_REVOKED_MAX {
        return Err(too_large("revoked", limits::TABLE_REVOKED_MAX));
    }
    Ok(())
}

fn based(message: String) -> Fault {
    Fault::new(Reason::DataplaneTableBase, message)
}
