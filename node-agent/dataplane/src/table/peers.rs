//! The peers of a table: each read once, in the words of WireGuard and of the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use rap_runtime::Fault;
use rap_types::NodeId;
use rap_wire::v1::TablePeer;
use rap_wireguard::PublicKey;

use super::{Deadlines, PeerFacts, deadline, ensure, id, prefix, refused};

/// What no peer may claim.
pub(super) struct Own<'a> {
    pub(super) node: NodeId,
    pub(super) key: PublicKey,
    pub(super) addresses: &'a [IpNet],
}

#[derive(Default)]
pub(super) struct Read {
    pub(super) wireguard: Vec<rap_wireguard::Peer>,
    pub(super) links: BTreeMap<NodeId, rap_mesh::Peer>,
    pub(super) facts: Vec<PeerFacts>,
}

/// Reads all peers. Those whose key generation is revoked are left out.
pub(super) fn read(
    peers: Vec<TablePeer>,
    own: &Own<'_>,
    revoked: &BTreeMap<NodeId, u64>,
    deadlines: Deadlines,
    linked: bool,
) -> Result<Read, Fault> {
    ensure(peers.len() <= PEERS, || format!("peers: at most {PEERS}"))?;
    let (mut nodes, mut keys, mut prefixes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut all = Read::default();
    for peer in peers {
        let node = id(NodeId::from_slice(&peer.node_id), "peer: node_id")?;
        let bad = |what: &str| format!("peer {node}: {what}");
        ensure(node != own.node && nodes.insert(node), || bad("is this node or appears twice"))?;
        let key = public_key(&peer.wireguard_public_key).map_err(|what| refused(bad(what)))?;
        if let Some(key) = key {
            ensure(key != own.key && keys.insert(key.to_bytes()), || {
                bad("its key is ours or appears twice")
            })?;
        }
        let allowed = allowed_ips(&peer, key.is_some()).map_err(|what| refused(bad(&what)))?;
        for net in &allowed {
            ensure(prefixes.insert(*net), || bad(&format!("{net} is claimed twice")))?;
            let ours = own.addresses.iter().any(|address| IpNet::from(address.addr()) == *net);
            ensure(!ours, || bad(&format!("{net} is an own address")))?;
        }
        if revoked.get(&node).is_some_and(|generation| peer.key_generation <= *generation) {
            tracing::warn!(%node, "a peer in the table is revoked: left out");
            continue;
        }
        let end = deadline(peer.deadline_ns);
        all.facts.push(PeerFacts { node, key, address: ping_address(&allowed, own.addresses) });
        if linked {
            let deadline = deadlines.of_link(end, peer.survive_forever);
            all.links.insert(node, rap_mesh::Peer { endpoints: endpoints(&peer.link_endpoints), deadline });
        }
        if let Some(public_key) = key {
            all.wireguard.push(rap_wireguard::Peer {
                public_key,
                preshared: None,
                endpoints: endpoints(&peer.wireguard_endpoints),
                allowed_ips: allowed,
                keepalive: keepalive(peer.keepalive_s),
                deadline: deadlines.of_tunnel(end, peer.survive_forever),
                survive_forever: peer.survive_forever,
            });
        }
    }
    Ok(all)
}

/// No key at all: the peer is linked and nothing else.
fn public_key(bytes: &[u8]) -> Result<Option<PublicKey>, &'static str> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let key: [u8; 32] = bytes.try_into().map_err(|_| "wireguard_public_key: 32 bytes")?;
    if key == [0; 32] { Err("wireguard_public_key: all zero") } else { Ok(Some(PublicKey::from(key))) }
}

fn allowed_ips(peer: &TablePeer, has_key: bool) -> Result<Vec<IpNet>, String> {
    if peer.allowed_ips.len() > ALLOWED_IPS || (!has_key && !peer.allowed_ips.is_empty()) {
        return Err(format!("allowed_ips: at most {ALLOWED_IPS}, none without a key"));
    }
    let nets = peer.allowed_ips.iter().map(|text| prefix(text).map(|net| net.trunc()));
    nets.collect::<Result<_, _>>().map_err(|fault| format!("allowed_ips: {fault}"))
}

/// The first that can be used, in their order. A name cannot: nothing here resolves names.
fn endpoints(texts: &[String]) -> Vec<SocketAddr> {
    let usable = |endpoint: &SocketAddr| {
        endpoint.port() != 0 && !endpoint.ip().is_unspecified() && !endpoint.ip().is_multicast()
    };
    texts.iter().filter_map(|text| text.parse().ok().filter(usable)).take(ENDPOINTS).collect()
}

fn keepalive(seconds: u32) -> Option<u16> {
    (seconds > 0).then(|| u16::try_from(seconds).unwrap_or(u16::MAX))
}

/// The first single address, in a family that this node has too.
fn ping_address(allowed: &[IpNet], own: &[IpNet]) -> Option<IpAddr> {
    let single = allowed.iter().filter(|net| net.prefix_len() == net.max_prefix_len()).map(IpNet::addr);
    let reachable = |address: &IpAddr| own.iter().any(|own| own.addr().is_ipv4() == address.is_ipv4());
    single.into_iter().find(reachable)
}

const PEERS: usize = 4096;
const ALLOWED_IPS: usize = 256;
/// Tried one after the other; more would only delay the next round.
const ENDPOINTS: usize = 32;
