//! The table in force as this process keeps it: a change is applied to it, and the devices are told what follows.
//!
//! Owns how a change fits: based on exactly the version in force, or refused with a code that makes the agent send
//! a whole table. Either all of a table or a change is taken, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use rap_mesh::PathPlan;
use rap_runtime::Fault;
use rap_runtime::tls::ClusterTrust;
use rap_types::{NodeId, Reason, limits};
use rap_wire::v1::{ForwardingTable, TableDelta, TablePeer};
use rap_wireguard::{DeviceConfig, PublicKey};

use crate::bounds::Bounds;

use super::field::{ensure, id, too_large};
use super::header::Header;
use super::member::Member;
use super::peer::KnownPeer;
use super::plan::{PathsInForce, PeerFacts, Plan};
use super::revocations::{self, LearnedRevocations, Revoked};

/// A table that was read as a whole. Cheap to clone: header and peers are shared.
#[derive(Clone)]
pub(crate) struct KnownTable {
    version: u64,
    header: Arc<Header>,
    peers: BTreeMap<NodeId, Arc<KnownPeer>>,
    /// Peers that the agent named and that cannot be used, and why.
    unusable: BTreeMap<NodeId, Fault>,
    revoked: Revoked,
}

impl KnownTable {
    /// Reads a whole table. A peer that cannot be used is left out; any other fault refuses it all.
    pub(crate) fn whole(mut table: ForwardingTable, bounds: &Bounds) -> Result<Self, Fault> {
        let version = table.version;
        let (peers, revoked) = (std::mem::take(&mut table.peers), std::mem::take(&mut table.revoked));
        within(peers.len(), revoked.len())?;
        let header = Arc::new(Header::read(table, bounds)?);
        let revoked = revocations::read(&revoked)?;
        let mut known = Self { version, header, peers: BTreeMap::new(), unusable: BTreeMap::new(), revoked };
        for peer in peers {
            known.put(peer, bounds, Existing::Contradicts)?;
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
            let known = next.peers.remove(&node).is_some() | next.unusable.remove(&node).is_some();
            known.then_some(()).ok_or_else(|| based(format!("removed peer {node} is not there")))?;
        }
        for peer in peers {
            next.put(peer, bounds, Existing::IsReplaced)?;
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
        let (mut known, mut plans) = (BTreeMap::new(), Vec::new());
        let (mut links, mut facts) = (BTreeMap::new(), Vec::with_capacity(self.peers.len()));
        let contested = self.contested();
        for (node, peer) in &self.peers {
            if revoked.get(node).is_some_and(|generation| peer.key_generation <= *generation) {
                tracing::warn!(%node, "a peer in the table is revoked: left out");
                continue;
            }
            let tunnel = !contested.contains(node);
            let address = peer.ping_address(&header.addresses).filter(|_| tunnel);
            facts.push(PeerFacts { node: *node, key: peer.key.filter(|_| tunnel), address });
            let alone = header.paths.wants_alone(*node);
            if let Some(linked) = peer.for_mesh(header.deadlines, alone).filter(|_| header.leaf.is_some()) {
                links.insert(*node, linked);
            }
            known.insert(*node, peer.as_end(header.deadlines));
            let mut paths = peer.paths(&header.paths, header.member.node).into_iter();
            let primary = paths.next().filter(|_| tunnel);
            device.peers.extend(peer.for_device(header.deadlines, primary.is_some()).filter(|_| tunnel));
            let plan = |primary| PathPlan { destination: *node, primary, backup: paths.next() };
            plans.extend(primary.map(plan));
        }
        let authorities = header.leaf.iter().flat_map(|leaf| leaf.authorities()).cloned().collect();
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
                former: header.leaf.as_ref().and_then(|leaf| leaf.former),
            },
            paths: PathsInForce {
                terms: header.paths.terms(header.deadlines.of_link(None, false), known),
                plans,
                relays: header.paths.relays(),
                attachments: header.paths.attachments,
            },
            peers: facts,
            unusable: self.unusable.values().cloned().collect(),
        }
    }

    /// Peers without a tunnel: each has a key or a prefix that this node or a peer before it has.
    fn contested(&self) -> BTreeSet<NodeId> {
        let header = &*self.header;
        let host = |net: &IpNet| IpNet::from(net.addr());
        let mut prefixes: BTreeSet<IpNet> = header.addresses.iter().map(host).collect();
        prefixes.extend(header.routed.iter().map(IpNet::trunc));
        let mut keys = BTreeSet::from([PublicKey::from(&header.private_key).to_bytes()]);
        let mut contested = BTreeSet::new();
        // Whom a deadline of its own admits for a while takes nothing from a peer without one.
        let lasting = self.peers.iter().filter(|(_, peer)| peer.lasts());
        let admitted = self.peers.iter().filter(|(_, peer)| !peer.lasts());
        for (node, peer) in lasting.chain(admitted) {
            let Some((key, own)) = peer.claims() else { continue };
            let own: BTreeSet<IpNet> = own.iter().copied().collect();
            if keys.contains(&key) || own.iter().any(|prefix| prefixes.contains(prefix)) {
                tracing::warn!(%node, "a peer has a key or an address of another one: it has no tunnel");
                contested.insert(*node);
                continue;
            }
            keys.insert(key);
            prefixes.extend(own);
        }
        contested
    }

    /// Adds or replaces a peer. One that cannot be used is in no table, so that it holds up nobody else: neither a
    /// removal nor a peer beside it.
    fn put(&mut self, peer: TablePeer, bounds: &Bounds, existing: Existing) -> Result<(), Fault> {
        let node = NodeId::from_slice(&peer.node_id).ok();
        let read = KnownPeer::read(peer, bounds).and_then(|peer| {
            ensure(peer.node != self.header.member.node, || format!("peer {}: is this node", peer.node))?;
            let named = self.peers.contains_key(&peer.node) || self.unusable.contains_key(&peer.node);
            let twice = existing == Existing::Contradicts && named;
            ensure(!twice, || format!("peer {}: appears twice", peer.node)).map(|()| peer)
        });
        match read {
            Ok(peer) => {
                self.unusable.remove(&peer.node);
                self.peers.insert(peer.node, Arc::new(peer));
            }
            Err(fault) if matches!(fault.reason, Reason::DataplaneTable | Reason::DataplaneOutsidePool) => {
                tracing::warn!(reason = %fault.reason, %fault, "a peer of the table cannot be used: left out");
                if let Some(node) = node {
                    self.peers.remove(&node);
                    self.unusable.insert(node, fault);
                }
            }
            Err(fault) => return Err(fault),
        }
        Ok(())
    }
}

/// What a peer is that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    /// The one before it in a change's table.
    IsReplaced,
    /// Another entry of the same table.
    Contradicts,
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
