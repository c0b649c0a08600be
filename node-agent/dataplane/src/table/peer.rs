//! One peer of a table, read once, in the words of WireGuard and of the mesh.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use rap_mesh::KnownEnd;
use rap_runtime::Fault;
use rap_types::sense::{self, Loopback};
use rap_types::{Mono, NodeId, OrganizationId, limits};
use rap_wire::v1::{TableLink, TablePath, TablePeer};
use rap_wireguard::{PresharedKey, PublicKey};
use zeroize::Zeroizing;

use crate::bounds::Bounds;

use super::deadlines::Deadlines;
use super::field::{deadline, id, prefix, refused, secret, unsupported, within};
use super::paths::{PathFields, RelayPositions, read_organization};

/// What is known of a peer. Known is not linked: see [`Self::link`].
pub(super) struct KnownPeer {
    pub(super) node: NodeId,
    pub(super) key_generation: u64,
    /// Absent: the peer has no tunnel.
    pub(super) key: Option<PublicKey>,
    preshared: Option<PresharedKey>,
    allowed_ips: Vec<IpNet>,
    wireguard_endpoints: Vec<SocketAddr>,
    link_endpoints: Vec<SocketAddr>,
    link: TableLink,
    keepalive: Option<u16>,
    deadline: Option<Mono>,
    survives: bool,
    /// Absent: a node of the platform.
    organization: Option<OrganizationId>,
    primary: Option<RelayPositions>,
    backup: Option<RelayPositions>,
}

impl KnownPeer {
    /// Reads one peer. What contradicts other peers is found by whoever puts the table in force.
    pub(super) fn read(mut peer: TablePeer, bounds: &Bounds) -> Result<Self, Fault> {
        let preshared = Zeroizing::new(std::mem::take(&mut peer.preshared_key));
        let node = id(NodeId::from_slice(&peer.node_id), "peer: node_id")?;
        let bad = |what: &str| refused(format!("peer {node}: {what}"));
        let cannot = |what: &str| unsupported(&format!("peer {node}: {what}"));
        if !peer.lanes.is_empty() {
            return Err(cannot("lanes"));
        }
        let path = |path: &Option<TablePath>| path.as_ref().map(RelayPositions::read).transpose();
        let paths = path(&peer.primary).and_then(|primary| Ok((primary, path(&peer.backup)?)));
        let (primary, backup) = paths.map_err(|what| bad(&what))?;
        let organization = read_organization(&peer.organization_id).map_err(|fault| bad(&fault.message))?;
        let link = TableLink::try_from(peer.link).map_err(|_| cannot("link"))?;
        let key = public_key(&peer.wireguard_public_key).map_err(bad)?;
        let preshared = match (preshared.is_empty(), key) {
            (true, _) => None,
            (false, None) => return Err(bad("preshared_key: none without a key")),
            (false, Some(_)) => {
                let secret = secret(&preshared, "preshared_key").map_err(|fault| bad(&fault.message))?;
                Some(PresharedKey::new(*secret))
            }
        };
        let allowed_ips = allowed_ips(&peer, key.is_some()).map_err(|what| bad(&what))?;
        for net in &allowed_ips {
            within(*net, bounds)
                .map_err(|fault| Fault::new(fault.reason, format!("peer {node}: {fault}")))?;
        }
        Ok(Self {
            node,
            key_generation: peer.key_generation,
            key,
            preshared,
            allowed_ips,
            wireguard_endpoints: endpoints(&peer.wireguard_endpoints),
            link_endpoints: endpoints(&peer.link_endpoints),
            link,
            keepalive: keepalive(peer.keepalive_s),
            deadline: deadline(peer.deadline_ns),
            survives: peer.survive_forever,
            organization,
            primary,
            backup,
        })
    }

    /// The peer of the mesh; `None` if it is neither dialled nor accepted.
    /// `alone`: the peer does not want the link.
    pub(super) fn for_mesh(&self, deadlines: Deadlines, alone: bool) -> Option<rap_mesh::Peer> {
        let dial = match self.link {
            TableLink::Dial if alone => rap_mesh::Dial::AtOnce,
            TableLink::Dial => rap_mesh::Dial::InTurn,
            TableLink::Accept => rap_mesh::Dial::OnDemand,
            TableLink::None => return None,
        };
        let deadline = deadlines.of_link(self.deadline, self.survives);
        Some(rap_mesh::Peer { endpoints: self.link_endpoints.clone(), deadline, dial })
    }

    /// By which relays the peer is reached: the first choice, and what stands in for it. Empty: directly only.
    pub(super) fn paths(&self, terms: &PathFields, own: NodeId) -> Vec<Vec<NodeId>> {
        let paths = [self.primary, self.backup].into_iter().flatten();
        let mut paths: Vec<_> = paths.filter_map(|path| terms.relays_of(path, own, self.node)).collect();
        paths.dedup();
        paths
    }

    /// The peer as an end or a hop of paths.
    pub(super) fn as_end(&self, deadlines: Deadlines) -> KnownEnd {
        KnownEnd {
            organization: self.organization,
            deadline: deadlines.of_link(self.deadline, self.survives),
        }
    }

    /// The peer of the device; `None` without a key. `relayed`: relays may carry to it.
    pub(super) fn for_device(&self, deadlines: Deadlines, relayed: bool) -> Option<rap_wireguard::Peer> {
        Some(rap_wireguard::Peer {
            public_key: self.key?,
            preshared: self.preshared.clone(),
            endpoints: self.wireguard_endpoints.clone(),
            allowed_ips: self.allowed_ips.clone(),
            keepalive: self.keepalive,
            deadline: deadlines.of_tunnel(self.deadline, self.survives),
            survive_forever: self.survives,
            relayed,
        })
    }

    /// True if nothing but the table's own deadlines ends it.
    pub(super) const fn lasts(&self) -> bool {
        self.deadline.is_none()
    }

    /// What no two peers may have: its key and its prefixes. `None` without a tunnel.
    pub(super) fn claims(&self) -> Option<([u8; 32], &[IpNet])> {
        Some((self.key?.to_bytes(), &self.allowed_ips))
    }

    /// The first single address, in a family that this node has too.
    pub(super) fn ping_address(&self, own: &[IpNet]) -> Option<IpAddr> {
        let single = self.allowed_ips.iter().filter(|net| net.prefix_len() == net.max_prefix_len());
        let reachable = |address: &IpAddr| own.iter().any(|own| own.addr().is_ipv4() == address.is_ipv4());
        single.map(IpNet::addr).find(reachable)
    }
}

/// No key at all: the peer has no tunnel.
fn public_key(bytes: &[u8]) -> Result<Option<PublicKey>, &'static str> {
    if bytes.is_empty() {
        return Ok(None);
    }
    sense::wireguard_key(bytes).map(|key| Some(PublicKey::from(key)))
}

fn allowed_ips(peer: &TablePeer, has_key: bool) -> Result<Vec<IpNet>, String> {
    let most = limits::PEER_PREFIXES_MAX;
    if peer.allowed_ips.len() > most || (!has_key && !peer.allowed_ips.is_empty()) {
        return Err(format!("allowed_ips: at most {most}, none without a key"));
    }
    let nets = peer.allowed_ips.iter().map(|text| prefix(text).map(|net| net.trunc()));
    nets.collect::<Result<_, _>>().map_err(|fault| format!("allowed_ips: {fault}"))
}

/// The first that can be used, in their order. Names are left out: this process resolves none.
fn endpoints(texts: &[String]) -> Vec<SocketAddr> {
    // Whether the own host counts is told by the agent.
    let usable = |endpoint: &SocketAddr| sense::socket_address(*endpoint, Loopback::Allowed).is_ok();
    texts.iter().filter_map(|text| text.parse().ok().filter(usable)).take(ENDPOINTS).collect()
}

fn keepalive(seconds: u32) -> Option<u16> {
    (seconds > 0).then(|| u16::try_from(seconds).unwrap_or(u16::MAX))
}

/// Tried one after the other; more would only delay the next round.
const ENDPOINTS: usize = 32;
