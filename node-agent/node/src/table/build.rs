//! Builds the forwarding table: what the data plane may do, from the verified snapshot and nothing else.
//!
//! Owns the shape: own addresses, peers with exactly their own addresses as allowed ips, deadlines on the
//! boot clock. Refuses to own keys beyond passing them on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rap_contract::VerifiedSnapshot;
use rap_trust::{DegradedContract, Freshness, PermittedPeer, Restriction, Sense, TrustedClock, Until};
use rap_types::sense::{self, Loopback};
use rap_types::{Activity, Mono, NodeId, Now, Wall};
use rap_wire::v1;

use super::forwarding::ForwardingTable;
use super::links;
use crate::{Hints, LinkCertificate, PathTerms, Paths, TrustedCas};

/// What a table is made of besides the snapshot.
#[derive(Debug, Clone, Copy)]
pub struct TableInputs<'a> {
    /// The node's WireGuard private key.
    pub wireguard_private_key: &'a [u8; 32],
    /// The node's leaf.
    pub leaf: &'a LinkCertificate,
    /// Unsigned dial hints by peer.
    pub hints: &'a Hints,
    /// Addresses of the control plane, as its names were resolved last.
    pub control: &'a BTreeSet<IpAddr>,
    /// Until when degraded mode lasts by a break-glass grant.
    pub extension: Option<Wall>,
    /// Peers that break-glass grants admit.
    pub permitted: &'a [PermittedPeer],
    /// A verified trust set that is not in use yet: the nodes that it revokes are no peers, and their
    /// certificates are refused.
    pub restriction: Option<&'a Restriction>,
    /// What of the snapshot is used.
    pub sense: &'a Sense,
    /// The relays of the snapshot; `None` for a data plane that knows no paths.
    pub paths: Option<&'a Paths>,
    /// What paths are signed with.
    pub path_terms: PathTerms,
    /// Whether endpoints on the own host are dialled.
    pub loopback: Loopback,
    /// Trusted time.
    pub clock: &'a TrustedClock,
    /// Now.
    pub now: Now,
}

/// Builds the table of a snapshot.
pub fn build_table(snapshot: &VerifiedSnapshot, version: u64, inputs: &TableInputs<'_>) -> ForwardingTable {
    tracing::trace!(way = "the snapshot becomes a forwarding table");
    let contents = snapshot.contents();
    let header = snapshot.head_document().header();
    let (contract, freshness) =
        (DegradedContract::of(&contents.policy), Freshness::of(snapshot).extended(inputs.extension));
    // Asked for once, here: the data plane keeps the answers as deadlines, alone if need be.
    let deadline = match contract.until(&freshness, Activity::ExistingLinks) {
        Until::At(wall) => deadline(wall, inputs),
        Until::Always => 0,
    };
    let state = Some(freshness.state(inputs.clock.wall(inputs.now)));
    let dials =
        contract.allows(state, Activity::LinkReconnect) || contract.continues(Activity::LinkReconnect);
    let mut peers = known_peers(contents.policy.wireguard_keepalive_s, &contract, dials, inputs);
    permit(&mut peers, contents.policy.wireguard_keepalive_s, deadline, inputs);
    let sooner = inputs.restriction.map_or(&[][..], |restriction| &restriction.trust.revoked);
    peers.retain(|peer| !sooner.iter().any(|revoked| is_of(revoked, peer)));
    let revoked = contents.trust.revoked.iter().chain(sooner).map(|revoked| v1::TableRevoked {
        node_id: revoked.node_id.clone(),
        key_generation: revoked.key_generation,
    });
    let revoked = deduplicated(revoked.collect());
    let paths = inputs.paths.filter(|paths| !paths.is_empty());
    match paths {
        Some(paths) => paths.mark(&mut peers),
        None => links::mark(&mut peers, snapshot.node()),
    }
    let header = v1::ForwardingTable {
        deadline_ns: deadline,
        node_id: snapshot.node().to_vec(),
        cluster_id: header.cluster.to_vec(),
        installation_id: header.installation.to_vec(),
        identity: identity(&contents.trust, inputs),
        addresses: inputs.sense.own().map(|own| own.texts().to_vec()).unwrap_or_default(),
        mtu: contents.policy.mtu,
        wireguard_private_key: inputs.wireguard_private_key.to_vec(),
        probe_interval_ms: contents.policy.link_probe_interval_ms,
        control: inputs.control.iter().take(CONTROL).map(ToString::to_string).collect(),
        newest_head: snapshot.head_document().envelope().to_vec(),
        // Tunnels need no leaf: a grant keeps them up after the leaf's end, links end with it.
        tunnel_deadline_ns: inputs.extension.map_or(0, |_| deadline),
        relays: paths.map(Paths::positions).unwrap_or_default(),
        relay: paths.and_then(|paths| paths.duty(inputs.path_terms)),
        organization_id: contents.assignment.organization_id.clone(),
        path_lifetime_s: inputs.path_terms.lifetime_s,
        path_instance: inputs.path_terms.instance,
        ..Default::default()
    };
    ForwardingTable::new(version, header, peers, revoked)
}

/// The certificate for links with the CAs that vouch for peers; none while the snapshot does not trust the CA that
/// signed it.
fn identity(trust: &v1::TrustChunk, inputs: &TableInputs<'_>) -> Option<v1::LinkIdentity> {
    let leaf = inputs.leaf;
    let [cluster_ca, next_cluster_ca, former_cluster_ca] =
        TrustedCas::of(trust).of_leaf(trust, &leaf.authority)?;
    Some(v1::LinkIdentity {
        certificate: leaf.certificate.clone(),
        private_key: leaf.private_key.to_vec(),
        cluster_ca,
        deadline_ns: deadline(leaf.not_after, inputs),
        next_cluster_ca,
        former_cluster_ca,
    })
}

/// The peers of the snapshot. They have no deadline of their own: the table's counts, unless they survive that.
fn known_peers(
    keepalive_s: u32,
    contract: &DegradedContract,
    dials: bool,
    inputs: &TableInputs<'_>,
) -> Vec<v1::TablePeer> {
    let peers = inputs.sense.peers().map(|(node, peer)| {
        let mut entry = table_peer(node, peer, keepalive_s, 0, inputs);
        entry.survive_forever = contract.survives(peer);
        if !dials {
            entry.link_endpoints.clear();
        }
        entry
    });
    peers.collect()
}

/// True if the peer's certificates are of a revoked generation.
fn is_of(revoked: &v1::RevokedNode, peer: &v1::TablePeer) -> bool {
    revoked.node_id == peer.node_id && revoked.key_generation >= peer.key_generation
}

/// One row per node: the highest generation that is revoked.
fn deduplicated(mut revoked: Vec<v1::TableRevoked>) -> Vec<v1::TableRevoked> {
    revoked.sort_by(|a, b| (&a.node_id, b.key_generation).cmp(&(&b.node_id, a.key_generation)));
    revoked.dedup_by(|later, kept| later.node_id == kept.node_id);
    revoked
}

/// Adds the peers of break-glass grants: one that is known gets their endpoints first, another is there
/// until the grant's end.
fn permit(peers: &mut Vec<v1::TablePeer>, keepalive_s: u32, deadline_ns: u64, inputs: &TableInputs<'_>) {
    for permitted in inputs.permitted {
        let record = &permitted.record;
        let Ok(node) = NodeId::from_slice(&record.node_id) else { continue };
        if let Some(known) = peers.iter_mut().find(|peer| peer.node_id == record.node_id) {
            known.link_endpoints = dialled(&record.link_endpoints, &known.link_endpoints, inputs.loopback);
            known.wireguard_endpoints =
                dialled(&record.wireguard_endpoints, &known.wireguard_endpoints, inputs.loopback);
            continue;
        }
        let until = deadline(permitted.until, inputs);
        let until = if deadline_ns == 0 { until } else { until.min(deadline_ns) };
        peers.push(table_peer(node, record, keepalive_s, until, inputs));
    }
}

fn table_peer(
    node: NodeId,
    peer: &v1::PeerRecord,
    keepalive_s: u32,
    deadline_ns: u64,
    inputs: &TableInputs<'_>,
) -> v1::TablePeer {
    let allowed_ips = vec![format!("{}/32", peer.overlay_ipv4), format!("{}/128", peer.overlay_ipv6)];
    v1::TablePeer {
        node_id: node.to_vec(),
        name: peer.name.clone(),
        wireguard_public_key: peer.wireguard_public_key.clone(),
        allowed_ips: if peer.wireguard_public_key.is_empty() { Vec::new() } else { allowed_ips },
        wireguard_endpoints: dialled(
            &peer.wireguard_endpoints,
            inputs.hints.wireguard(node),
            inputs.loopback,
        ),
        link_endpoints: dialled(&peer.link_endpoints, inputs.hints.link(node), inputs.loopback),
        keepalive_s,
        deadline_ns,
        survive_forever: false,
        key_generation: peer.key_generation,
        organization_id: peer.organization_id.clone(),
        ..Default::default()
    }
}

/// Signed endpoints first, then hints that add something. One that makes no sense is never dialled.
fn dialled(signed: &[String], hints: &[String], loopback: Loopback) -> Vec<String> {
    let added = hints.iter().filter(|hint| !signed.contains(hint));
    let sensible = |endpoint: &&String| sense::endpoint(endpoint, loopback).is_ok();
    signed.iter().chain(added).filter(sensible).cloned().collect()
}

/// A deadline on the boot clock; never 0, which would mean none.
fn deadline(wall: Wall, inputs: &TableInputs<'_>) -> u64 {
    let Mono(deadline) = inputs.clock.mono_of(wall, inputs.now);
    deadline.max(1)
}

/// The data plane takes no more.
const CONTROL: usize = 64;
