//! Rows to chunks: what each scope's piece of configuration says.

use std::sync::Arc;

use prost::Message as _;
use rap_contract::{ASSIGNMENT_SLOT, POLICY_SLOT, TRUST_SLOT, chunk_id, peer_slot};
use rap_types::{Digest, KeyId};
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

fn chunk(slot: String, body: Body) -> SlotChunk {
    let bytes: Arc<[u8]> = v1::Chunk { slot: slot.clone(), body: Some(body) }.encode_to_vec().into();
    SlotChunk { slot, id: chunk_id(&bytes), bytes }
}

/// Slot `trust`: the cluster CA and revocations.
pub(crate) fn trust(rows: &ClusterRows) -> SlotChunk {
    let mut revoked: Vec<v1::RevokedNode> = rows
        .revoked
        .iter()
        .map(|row| v1::RevokedNode {
            node_id: row.node.to_vec(),
            node_key_sha256: KeyId::of(&row.node_public_key).to_vec(),
            key_generation: row.key_generation,
        })
        .collect();
    revoked.sort_by(|a, b| a.node_id.cmp(&b.node_id));
    let body = v1::TrustChunk { cluster_ca: rows.cluster_ca.clone(), revoked, key_records: Vec::new() };
    chunk(TRUST_SLOT.to_owned(), Body::Trust(body))
}

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
        ..Default::default()
    };
    chunk(POLICY_SLOT.to_owned(), Body::Policy(body))
}

/// Slot `peer/<node>`: what other nodes may know of it.
pub(crate) fn peer(rows: &ClusterRows, node: &NodeRow) -> Result<SlotChunk, PlanError> {
    let (ipv4, ipv6) = rows.addresses(node).ok_or(PlanError::HostNumber(node.node))?;
    let body = v1::PeerRecord {
        node_id: node.node.to_vec(),
        name: node.name.clone(),
        node_key_sha256: KeyId::of(&node.node_public_key).to_vec(),
        wireguard_public_key: node.wireguard_public_key.to_vec(),
        overlay_ipv4: ipv4.to_string(),
        overlay_ipv6: ipv6.to_string(),
        roles: role_words(node),
        region: node.region.clone(),
        link_endpoints: node.link_endpoints.clone(),
        wireguard_endpoints: node.wireguard_endpoints.clone(),
        organization_id: node.organization.map(|id| id.to_vec()).unwrap_or_default(),
        key_generation: node.key_generation,
    };
    Ok(chunk(peer_slot(node.node), Body::Peer(body)))
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
    };
    Ok(chunk(ASSIGNMENT_SLOT.to_owned(), Body::Assignment(body)))
}

fn role_words(node: &NodeRow) -> Vec<String> {
    let mut roles: Vec<String> = node.roles.iter().map(|role| role.as_str().to_owned()).collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}
