//! A forwarding table, read and checked as a whole before anything of it is used.
//!
//! Owns what a well-formed table is and how its deadlines combine. Refuses to own its truth: the agent
//! verified what it was made from. A contradiction refuses the table; a setting out of range is brought
//! into it and an endpoint that cannot be used is left out, because a table that is refused also keeps
//! back the revocations in it.

mod identity;
mod peers;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use rap_runtime::Fault;
use rap_types::{ClusterId, InstallationId, Mono, NodeId, Reason};
use rap_wire::v1::{ForwardingTable, TableRevoked};
use rap_wireguard::{DEFAULT_MTU, DeviceTable, PublicKey, StaticSecret};
use zeroize::Zeroizing;

pub(crate) use identity::LinkLeaf;

/// Whose data plane this is. Fixed by the first table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) installation: InstallationId,
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
}

/// A table in the words of those who obey it.
pub(crate) struct Plan {
    pub(crate) version: u64,
    pub(crate) member: Member,
    pub(crate) private_key: StaticSecret,
    pub(crate) mtu: u16,
    pub(crate) device: DeviceTable,
    /// Absent: nobody is linked.
    pub(crate) leaf: Option<LinkLeaf>,
    pub(crate) links: rap_mesh::Peers,
    pub(crate) probe_interval: Option<Duration>,
    pub(crate) peers: Vec<PeerFacts>,
}

/// What is remembered of a peer for statistics and pings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerFacts {
    pub(crate) node: NodeId,
    pub(crate) key: Option<PublicKey>,
    /// The address that a ping goes to.
    pub(crate) address: Option<IpAddr>,
}

/// The deadlines that everything in a table has in common.
#[derive(Debug, Clone, Copy)]
struct Deadlines {
    table: Option<Mono>,
    leaf: Option<Mono>,
    /// Until when a break-glass grant keeps tunnels up.
    grant: Option<Mono>,
}

/// Reads a table; any fault in it refuses it all.
pub(crate) fn read(mut table: ForwardingTable) -> Result<Plan, Fault> {
    // First of all, so that they are wiped on every way out.
    let private_key = Zeroizing::new(std::mem::take(&mut table.wireguard_private_key));
    let leaf_key = table.identity.as_mut().map(|identity| std::mem::take(&mut identity.private_key));
    let leaf_key = Zeroizing::new(leaf_key.unwrap_or_default());
    let ForwardingTable {
        version,
        deadline_ns,
        node_id,
        cluster_id,
        installation_id,
        identity,
        addresses,
        mtu,
        wireguard_private_key: _,
        peers,
        revoked,
        probe_interval_ms,
        newest_head,
        tunnel_deadline_ns,
    } = table;
    let private_key = secret(&private_key)?;
    let member = Member {
        installation: id(InstallationId::from_slice(&installation_id), "installation_id")?,
        cluster: id(ClusterId::from_slice(&cluster_id), "cluster_id")?,
        node: id(NodeId::from_slice(&node_id), "node_id")?,
    };
    let leaf = identity.map(|identity| LinkLeaf::read(identity, leaf_key, member)).transpose()?;
    let deadlines = Deadlines {
        table: deadline(deadline_ns),
        leaf: leaf.as_ref().and_then(|leaf| leaf.deadline),
        grant: deadline(tunnel_deadline_ns),
    };
    let addresses = own_addresses(&addresses)?;
    let revoked = revocations(&revoked)?;
    let own = peers::Own { node: member.node, key: PublicKey::from(&private_key), addresses: &addresses };
    let read = peers::read(peers, &own, &revoked, deadlines, leaf.is_some())?;
    let newest_head = Some(newest_head).filter(|head| head.len() <= rap_link::HEAD_MAX).unwrap_or_default();
    let authorities = leaf.iter().map(|leaf| leaf.authority().clone()).collect();
    let trust = rap_runtime::tls::ClusterTrust { installation: member.installation, authorities, revoked };
    Ok(Plan {
        version,
        member,
        private_key,
        mtu: overlay_mtu(mtu),
        device: DeviceTable { addresses, peers: read.wireguard, deadline: deadlines.of_tunnels() },
        leaf,
        links: rap_mesh::Peers { peers: read.links, trust, newest_head },
        probe_interval: probe_interval(probe_interval_ms),
        peers: read.facts,
    })
}

impl Deadlines {
    /// When a link with a peer ends at the latest. Without a valid leaf of our own there is none.
    fn of_link(self, peer: Option<Mono>, survives: bool) -> Mono {
        let table = self.table.filter(|_| !survives);
        earliest(earliest(peer, table), self.leaf).unwrap_or(Mono(u64::MAX))
    }

    /// When all tunnels end but those of peers that survive. With the right to hold a leaf ends the
    /// right to talk, by whichever way, but for what a break-glass grant keeps up.
    fn of_tunnels(self) -> Option<Mono> {
        self.grant.or(earliest(self.table, self.leaf))
    }

    /// When the tunnel with a peer ends by itself. To survive is to outlast the table, never the own
    /// leaf: a node that hears of no revocation would go on with a thief for ever.
    fn of_tunnel(self, peer: Option<Mono>, survives: bool) -> Option<Mono> {
        earliest(peer, self.leaf.max(self.grant.filter(|_| self.leaf.is_some())).filter(|_| survives))
    }
}

fn own_addresses(texts: &[String]) -> Result<Vec<IpNet>, Fault> {
    ensure((1..=ADDRESSES).contains(&texts.len()), || format!("addresses: 1 to {ADDRESSES}"))?;
    texts.iter().map(|text| prefix(text)).collect()
}

fn revocations(list: &[TableRevoked]) -> Result<BTreeMap<NodeId, u64>, Fault> {
    let mut revoked = BTreeMap::new();
    for TableRevoked { node_id, key_generation } in list {
        let node = id(NodeId::from_slice(node_id), "revoked: node_id")?;
        let highest = revoked.entry(node).or_insert(*key_generation);
        *highest = (*highest).max(*key_generation);
    }
    Ok(revoked)
}

/// IPv6 takes no interface below its minimum, which is also the default.
fn overlay_mtu(mtu: u32) -> u16 {
    u16::try_from(mtu).unwrap_or(LARGEST_MTU).clamp(DEFAULT_MTU, LARGEST_MTU)
}

fn probe_interval(millis: u32) -> Option<Duration> {
    (millis > 0).then(|| Duration::from_millis(millis.into()).clamp(SHORTEST_PROBE, LONGEST_PROBE))
}

fn secret(bytes: &[u8]) -> Result<StaticSecret, Fault> {
    let key: Option<Zeroizing<[u8; 32]>> = bytes.try_into().ok().map(Zeroizing::new);
    let key = key.filter(|key| **key != [0; 32]);
    let key = key.ok_or_else(|| refused("wireguard_private_key: 32 bytes, not all zero"))?;
    Ok(StaticSecret::from(*key))
}

/// An address with a prefix length; never one that means many or nobody.
fn prefix(text: &str) -> Result<IpNet, Fault> {
    let parsed = text.parse::<IpNet>().ok();
    parsed.filter(|net| !net.addr().is_multicast()).ok_or_else(|| refused(format!("{text:?}: not a prefix")))
}

fn id<T, E: std::fmt::Display>(read: Result<T, E>, field: &str) -> Result<T, Fault> {
    read.map_err(|error| refused(format!("{field}: {error}")))
}

fn deadline(nanos: u64) -> Option<Mono> {
    (nanos > 0).then_some(Mono(nanos))
}

fn earliest(a: Option<Mono>, b: Option<Mono>) -> Option<Mono> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(refused(otherwise())) }
}

pub(crate) fn refused(message: impl Into<String>) -> Fault {
    Fault::new(Reason::DataplaneTable, message)
}

const ADDRESSES: usize = 16;
const LARGEST_MTU: u16 = 9000;
const SHORTEST_PROBE: Duration = Duration::from_millis(100);
const LONGEST_PROBE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
