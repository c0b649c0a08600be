//! What of a verified snapshot makes sense for this node, slot by slot.
//!
//! A signature says who wrote a record, not that it can be used. A peer whose record makes no sense is not used, and
//! everything else of the snapshot is. Own addresses that make no sense are not used either: those of the snapshot
//! before stay, or those of the bootstrap contract.
//!
//! Owns the judgement. Refuses to refuse a snapshot: a revocation in it counts whatever else it says.

use std::collections::BTreeMap;
use std::sync::Arc;

use rap_contract::{Reject, SharedMap, SnapshotContents};
use rap_types::sense::{self, OverlayPools};
use rap_types::{NodeId, OrganizationId, Reason};
use rap_wire::v1;

/// Own overlay addresses and the pools that they are in, all sensible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnAddresses {
    /// ADDRESS/PREFIX, IPv4 first.
    texts: [String; 2],
    pools: OverlayPools,
}

impl OwnAddresses {
    /// Reads the own addresses of a bootstrap contract.
    ///
    /// # Errors
    /// `contract.insensible`.
    pub fn of_contract(contract: &v1::BootstrapContract) -> Result<Self, Reject> {
        Self::read(&contract.overlay_ipv4, &contract.overlay_ipv6)
            .map_err(|what| Reject::new(Reason::ContractInsensible, what))
    }

    fn of_snapshot(contents: &SnapshotContents) -> Result<Self, &'static str> {
        let (own, policy) = (&contents.assignment, &contents.policy);
        let read = Self::read(&own.overlay_ipv4, &own.overlay_ipv6)?;
        read.pools.are(&policy.overlay_ipv4_pool, &policy.overlay_ipv6_prefix)?;
        Ok(read)
    }

    fn read(ipv4: &str, ipv6: &str) -> Result<Self, &'static str> {
        let pools = OverlayPools::of_own(ipv4, ipv6)?;
        Ok(Self { texts: [ipv4.to_owned(), ipv6.to_owned()], pools })
    }

    /// The addresses, each with the prefix length of its pool.
    pub const fn texts(&self) -> &[String; 2] {
        &self.texts
    }

    /// The cluster's pools.
    pub const fn pools(&self) -> &OverlayPools {
        &self.pools
    }
}

/// A node that relays for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// The node: a peer, or this node itself.
    pub node: NodeId,
    /// The organization between whose nodes it carries; `None` for everybody's.
    pub organization: Option<OrganizationId>,
    /// Region.
    pub region: String,
    /// It leaves: nobody makes it a home while another relay can be.
    pub draining: bool,
}

impl Relay {
    /// Whether it may carry between nodes of these organizations.
    pub fn carries(&self, one: Option<OrganizationId>, other: Option<OrganizationId>) -> bool {
        self.organization.is_none() || (self.organization == one && self.organization == other)
    }
}

/// What is used of a snapshot, and what is not.
#[derive(Debug, Clone, PartialEq)]
pub struct Sense {
    contents: SnapshotContents,
    own: Option<OwnAddresses>,
    own_unused: Option<&'static str>,
    unused: BTreeMap<NodeId, &'static str>,
    relays: Vec<Relay>,
    relays_unused: BTreeMap<Option<OrganizationId>, &'static str>,
}

impl Sense {
    /// Judges the contents of a snapshot. `before` is the judgement of the snapshot before; `given` are the addresses
    /// of the contract.
    pub(crate) fn of(
        contents: &SnapshotContents,
        before: Option<&Self>,
        given: Option<&OwnAddresses>,
    ) -> Self {
        let (own, own_unused) = own_addresses(contents, before, given);
        let same = |own: &OwnAddresses| {
            before.filter(|before| before.own.as_ref().is_some_and(|known| known.pools == own.pools))
        };
        // A record that was judged before within the same pools is not judged again.
        let before = own.as_ref().and_then(same);
        let mut unused = before.map(|before| before.unused.clone()).unwrap_or_default();
        let nothing = SharedMap::new();
        let known = before.map_or(&nothing, |before| &before.contents.peers);
        for (node, _) in known.apart_from(&contents.peers) {
            if !contents.peers.contains_key(node) {
                unused.remove(node);
            }
        }
        for (node, record) in contents.peers.apart_from(known) {
            if known.get(node).is_some_and(|known| Arc::ptr_eq(known, record)) {
                continue;
            }
            let judged = match &own {
                Some(own) => check_peer_sense(record, &own.pools).err(),
                None => Some("no own address makes sense: the cluster's pools are not known"),
            };
            match judged {
                Some(why) => unused.insert(*node, why),
                None => unused.remove(node),
            };
        }
        let (relays, relays_unused) = relays(contents, &unused);
        Self { contents: contents.clone(), own, own_unused, unused, relays, relays_unused }
    }

    /// The nodes that relay, by node id; this one may be among them.
    pub fn relays(&self) -> &[Relay] {
        &self.relays
    }

    /// Owners of whose relays some are not used, and why.
    pub const fn relays_unused(&self) -> &BTreeMap<Option<OrganizationId>, &'static str> {
        &self.relays_unused
    }

    /// This node's duties.
    pub fn assignment(&self) -> &v1::NodeAssignment {
        &self.contents.assignment
    }

    /// Peers whose records are used, by node id.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, &Arc<v1::PeerRecord>)> {
        let used = |(node, _): &(&NodeId, _)| !self.unused.contains_key(*node);
        self.contents.peers.iter().filter(used).map(|(node, record)| (*node, record))
    }

    /// The record of a peer, if it is used.
    pub fn peer(&self, node: NodeId) -> Option<&Arc<v1::PeerRecord>> {
        self.contents.peers.get(&node).filter(|_| !self.unused.contains_key(&node))
    }

    /// True if a peer that was used before is not used any more. Costs what differs.
    pub fn lacks_any_of(&self, before: &Self) -> bool {
        let gone = |node: &NodeId| before.peer(*node).is_some() && self.peer(*node).is_none();
        self.own.as_ref().map(OwnAddresses::pools) != before.own.as_ref().map(OwnAddresses::pools)
            || before.contents.peers.apart_from(&self.contents.peers).any(|(node, _)| gone(node))
    }

    /// Own addresses in use; `None` if neither a snapshot nor the contract had sensible ones.
    pub const fn own(&self) -> Option<&OwnAddresses> {
        self.own.as_ref()
    }

    /// Why the own addresses of the snapshot are not used.
    pub const fn own_unused(&self) -> Option<&'static str> {
        self.own_unused
    }

    /// Peers whose records are not used, and why.
    pub const fn unused(&self) -> &BTreeMap<NodeId, &'static str> {
        &self.unused
    }

    /// What the snapshot says, used or not.
    pub(crate) const fn contents(&self) -> &SnapshotContents {
        &self.contents
    }
}

/// The organization that a record names; `None` is the platform.
fn organization_of(bytes: &[u8]) -> Result<Option<OrganizationId>, &'static str> {
    match bytes {
        [] => Ok(None),
        id => OrganizationId::from_slice(id).map(Some).map_err(|_| "an organization's id has 16 bytes"),
    }
}

/// The relays that can be used, and the owners of those that cannot. A relay carries for whom its record says that
/// it may: a customer's node that stands among the platform's relays is none.
fn relays(
    contents: &SnapshotContents,
    unused: &BTreeMap<NodeId, &'static str>,
) -> (Vec<Relay>, BTreeMap<Option<OrganizationId>, &'static str>) {
    let (mut usable, mut owners) = (Vec::new(), BTreeMap::new());
    let own = &contents.assignment;
    if let Err(why) = organization_of(&own.organization_id) {
        return (usable, contents.relays.keys().map(|owner| (*owner, why)).collect());
    }
    for (owner, chunk) in &contents.relays {
        for entry in &chunk.relays {
            let Ok(node) = NodeId::from_slice(&entry.node_id) else { continue };
            let record = contents.peers.get(&node).filter(|_| !unused.contains_key(&node));
            let organization = match record {
                Some(record) => &record.organization_id,
                None if own.node_id == entry.node_id => &own.organization_id,
                None => {
                    owners.insert(*owner, "a relay is no peer whose record is used");
                    continue;
                }
            };
            if organization_of(organization) != Ok(*owner) {
                owners.insert(*owner, "a relay is of another organization");
                continue;
            }
            let (region, draining) = (entry.region.clone(), entry.draining);
            usable.push(Relay { node, organization: *owner, region, draining });
        }
    }
    usable.sort_unstable_by_key(|relay| relay.node);
    (usable, owners)
}

/// The addresses that are used with these contents, and why those in them are not.
pub(crate) fn own_addresses(
    contents: &SnapshotContents,
    before: Option<&Sense>,
    given: Option<&OwnAddresses>,
) -> (Option<OwnAddresses>, Option<&'static str>) {
    match OwnAddresses::of_snapshot(contents) {
        Ok(own) => (Some(own), None),
        Err(why) => (before.map_or(given, |before| before.own.as_ref()).cloned(), Some(why)),
    }
}

/// Says whether a peer's record can be used in a cluster with these pools. Endpoints are judged where they are dialled.
pub(crate) fn check_peer_sense(record: &v1::PeerRecord, pools: &OverlayPools) -> Result<(), &'static str> {
    sense::label(&record.name)?;
    organization_of(&record.organization_id)?;
    if !record.wireguard_public_key.is_empty() {
        sense::wireguard_key(&record.wireguard_public_key)?;
    }
    pools.hosts(&record.overlay_ipv4, &record.overlay_ipv6)?;
    if record.key_generation == 0 {
        return Err("key generations begin with 1");
    }
    Ok(())
}
