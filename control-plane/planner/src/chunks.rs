//! Rows to chunks: what each scope's piece of configuration says.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use rap_contract::{ASSIGNMENT_SLOT, POLICY_SLOT, TRUST_SLOT, chunk_id, peer_slot, relays_slot};
use rap_types::{Digest, KeyId, OrganizationId, sense};
use rap_wire::v1;
use v1::chunk::Body;

use crate::{ClusterRows, NodeRow, PlanError};

/// An encoded chunk with the slot it fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlotChunk {
    pub(crate) slot: String,
    pub(crate) id: Digest,
    pub(crate) bytes: Arc<[u8]>,
}

impl SlotChunk {
    /// Bytes that slot and chunk take in an update, at most.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + self.slot.len() + FRAMING
    }
}

/// The chunk id, and tags and lengths of slot and chunk.
const FRAMING: usize = 32 + 16;

fn chunk(slot: String, body: Body) -> SlotChunk {
    let bytes: Arc<[u8]> = v1::Chunk { slot: slot.clone(), body: Some(body) }.encode_to_vec().into();
    SlotChunk { slot, id: chunk_id(&bytes), bytes }
}

/// Slot `trust`: the cluster CA, and what the chain of revocations says.
pub(crate) fn trust(rows: &ClusterRows) -> SlotChunk {
    let chain = &rows.revocations;
    let leaf_lifetime = Duration::from_millis(rows.leaf_lifetime_ms);
    let body = v1::TrustChunk {
        cluster_ca: rows.cluster_ca.clone(),
        revoked: chain.listed(leaf_lifetime, REVOKED_MOST),
        key_records: Vec::new(),
        revocation_sequence: chain.sequence(),
        revocation_digest: chain.digest().map(Digest::to_vec).unwrap_or_default(),
        next_cluster_ca: rows.next_ca.as_ref().map(|next| next.certificate.clone()).unwrap_or_default(),
        next_ca_issues: rows.next_ca.as_ref().is_some_and(|next| next.issues),
    };
    chunk(TRUST_SLOT.to_owned(), Body::Trust(body))
}

/// More would not fit into one chunk.
const REVOKED_MOST: usize = 1000;

/// Slot `policy`: cluster-wide limits.
pub(crate) fn policy(rows: &ClusterRows) -> SlotChunk {
    let body = v1::PolicyChunk {
        degraded_for_ms: rows.degraded_for_ms,
        leaf_lifetime_ms: rows.leaf_lifetime_ms,
        overlay_ipv4_pool: rows.ipv4_pool.to_string(),
        overlay_ipv6_prefix: rows.ipv6_prefix().to_string(),
        mtu: rows.mtu,
        link_probe_interval_ms: rows.link_probe_interval_ms,
        wireguard_keepalive_s: rows.wireguard_keepalive_s,
        cluster_name: rows.name.clone(),
        wireguard_key_max_age_ms: rows.wireguard_key_max_age_ms,
        identity_key_max_age_ms: rows.identity_key_max_age_ms,
        degraded_ends: rows.degraded_ends.clone(),
        survive_forever_roles: rows.survive_forever_roles.clone(),
    };
    chunk(POLICY_SLOT.to_owned(), Body::Policy(body))
}

/// Slot `peer/<node>`: what other nodes may know of it; without its endpoints if it is to be `short`.
///
/// What makes no sense is left out, and the first reason is told. A peer without a key is linked and has no tunnel.
pub(crate) fn peer(
    rows: &ClusterRows,
    node: &NodeRow,
    short: bool,
) -> Result<(SlotChunk, Option<&'static str>), PlanError> {
    let key = sense::wireguard_key(&node.wireguard_public_key);
    let mut senseless = key.err();
    let mut endpoints = |all: &[String]| {
        let mut usable = all.to_vec();
        usable.retain(|endpoint| match sense::endpoint(endpoint, rows.loopback) {
            Ok(()) => !short,
            Err(why) => {
                senseless = senseless.or(Some(why));
                false
            }
        });
        usable
    };
    let (link_endpoints, wireguard_endpoints) =
        (endpoints(&node.link_endpoints), endpoints(&node.wireguard_endpoints));
    let (ipv4, ipv6) = rows.addresses(node).ok_or(PlanError::HostNumber(node.node))?;
    let body = v1::PeerRecord {
        node_id: node.node.to_vec(),
        name: node.name.clone(),
        node_key_sha256: KeyId::of(&node.node_public_key).to_vec(),
        wireguard_public_key: key.map(Vec::from).unwrap_or_default(),
        overlay_ipv4: ipv4.to_string(),
        overlay_ipv6: ipv6.to_string(),
        roles: role_words(node),
        region: node.region.clone(),
        link_endpoints,
        wireguard_endpoints,
        organization_id: node.organization.map(|id| id.to_vec()).unwrap_or_default(),
        key_generation: node.key_generation,
    };
    Ok((chunk(peer_slot(node.node), Body::Peer(body)), senseless))
}

/// Slot `assignment`: the node's own duties and addresses.
pub(crate) fn assignment(rows: &ClusterRows, node: &NodeRow) -> Result<SlotChunk, PlanError> {
    let (ipv4, ipv6) = rows.addresses(node).ok_or(PlanError::HostNumber(node.node))?;
    let mut tags = node.tags.clone();
    tags.sort_unstable();
    let body = v1::NodeAssignment {
        node_id: node.node.to_vec(),
        name: node.name.clone(),
        roles: role_words(node),
        organization_id: node.organization.map(|id| id.to_vec()).unwrap_or_default(),
        tags,
        overlay_ipv4: format!("{ipv4}/{}", rows.ipv4_pool.prefix_len()),
        overlay_ipv6: format!("{ipv6}/{}", rows.ipv6_prefix().prefix_len()),
        wireguard_public_key: node.wireguard_public_key.to_vec(),
        node_key_sha256: KeyId::of(&node.node_public_key).to_vec(),
        key_generation: node.key_generation,
        region: node.region.clone(),
        inbound: node.link_endpoints.iter().any(|one| sense::endpoint(one, rows.loopback).is_ok()),
    };
    Ok(chunk(ASSIGNMENT_SLOT.to_owned(), Body::Assignment(body)))
}

/// Slot `relays/<owner>`: the relays of the platform (`None`) or of an organization.
pub(crate) fn relays(owner: Option<OrganizationId>, body: v1::RelaysChunk) -> SlotChunk {
    chunk(relays_slot(owner), Body::Relays(body))
}

fn role_words(node: &NodeRow) -> Vec<String> {
    let mut roles: Vec<String> = node.roles.iter().map(|role| role.as_str().to_owned()).collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}
