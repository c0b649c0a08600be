//! Rows as operators see them.

use std::collections::BTreeSet;

use rap_authority::{ReplicaFloors, token_state};
use rap_contract::PublicKey;
use rap_planner::addressing;
use rap_store::{BareClusterRow, ClusterRow, JoinRequestRow, NodeElsewhere, NodeRow, RowName, TokenRow};
use rap_types::{ClusterId, JoinRequestId, NodeId, Reason, TokenId, Wall};
use rap_wire::v1;

use crate::serve::cluster::{Cluster, token_signer};
use crate::serve::handle::Serving;
use crate::serve::revoked_tokens::is_put_back;

pub(crate) fn cluster(row: &ClusterRow, authority: &PublicKey) -> v1::Cluster {
    v1::Cluster {
        cluster_id: row.cluster.cluster.to_vec(),
        name: row.cluster.name.clone(),
        authority_key: authority.to_vec(),
        ipv4_pool: row.cluster.ipv4_pool.to_string(),
        ipv6_prefix: addressing::ipv6_prefix(row.cluster.cluster).to_string(),
        incarnation: row.cluster.incarnation,
        version: row.config_seq,
        fresh_for_ms: row.cluster.fresh_for_ms,
        degraded_for_ms: row.cluster.degraded_for_ms,
        created_at_ms: row.created_at.0,
        refresh_every_ms: row.cluster.refresh_every_ms,
        leaf_lifetime_ms: row.cluster.leaf_lifetime_ms,
        refused: String::new(),
        ca_rotation: None,
    }
}

/// A row that has no keys, as it stands.
pub(crate) fn bare_cluster(row: &BareClusterRow) -> v1::Cluster {
    v1::Cluster {
        ipv4_pool: row.ipv4_pool.clone(),
        ipv6_prefix: addressing::ipv6_prefix(row.cluster).to_string(),
        fresh_for_ms: row.fresh_for_ms,
        degraded_for_ms: row.degraded_for_ms,
        created_at_ms: row.created_at.0,
        refresh_every_ms: row.refresh_every_ms,
        leaf_lifetime_ms: row.leaf_lifetime_ms,
        ..refused_cluster(row.cluster, &row.name, Reason::ClusterNoAuthority)
    }
}

/// A cluster that is not served, by name.
pub(crate) fn refused_cluster(id: ClusterId, name: &str, reason: Reason) -> v1::Cluster {
    v1::Cluster {
        cluster_id: id.to_vec(),
        name: name.to_owned(),
        refused: reason.to_string(),
        ..v1::Cluster::default()
    }
}

pub(crate) fn token(floors: &ReplicaFloors, cluster: &Cluster, row: &TokenRow, now: Wall) -> v1::Token {
    let token = &row.token;
    // A token ends with the authority key that signed it and when it is revoked, whatever its row says.
    let counts = token_signer(cluster, &token.envelope).is_ok() && !is_put_back(floors, row);
    v1::Token {
        token_id: token.token.to_vec(),
        cluster_id: token.cluster.to_vec(),
        roles: token.roles.iter().map(ToString::to_string).collect(),
        max_uses: token.max_uses,
        uses: row.uses,
        expires_at_ms: token.expires_at.0,
        revoked_at_ms: row.revoked_at.map_or(0, |at| at.0),
        approval: token.approval.to_string(),
        created_at_ms: row.created_at.0,
        state: if counts { token_state(&row.terms(), now) } else { "revoked" }.to_owned(),
        nodes_revoked: Vec::new(),
        ephemeral: token.ephemeral,
        refused: String::new(),
    }
}

/// A token whose row does not hold: its id, and that.
pub(crate) fn tampered_token(cluster: &Cluster, row: &RowName) -> Option<v1::Token> {
    Some(v1::Token {
        token_id: row.key.parse::<TokenId>().ok()?.to_vec(),
        cluster_id: cluster.id.to_vec(),
        refused: Reason::RowTampered.to_string(),
        ..v1::Token::default()
    })
}

/// A node whose row does not hold: its id, and that.
pub(crate) fn tampered_node(cluster: &Cluster, row: &RowName) -> Option<v1::Node> {
    Some(v1::Node {
        node_id: row.key.parse::<NodeId>().ok()?.to_vec(),
        cluster_id: cluster.id.to_vec(),
        refused: Reason::RowTampered.to_string(),
        ..v1::Node::default()
    })
}

/// A request whose row does not hold.
pub(crate) fn tampered_request(row: &RowName) -> Option<v1::PendingNode> {
    row.key.parse().ok().map(refused_request)
}

/// A request that nobody may decide: its row or its token's does not hold.
pub(crate) fn refused_request(request: JoinRequestId) -> v1::PendingNode {
    v1::PendingNode {
        request_id: request.to_vec(),
        refused: Reason::RowTampered.to_string(),
        ..v1::PendingNode::default()
    }
}

pub(crate) fn node(serving: &Serving, cluster: &Cluster, row: &NodeRow) -> v1::Node {
    let node = &row.node;
    let addresses = addressing::addresses(cluster.id, cluster.ipv4_pool, node.host_number);
    let acknowledged = serving.sessions.acknowledged_by(cluster.id, node.node);
    let contact = row.contact.as_ref();
    let known = contact.map(|contact| &contact.known);
    let gone = cluster.revocations.known().chain.gone(node.node);
    v1::Node {
        node_id: node.node.to_vec(),
        cluster_id: cluster.id.to_vec(),
        name: node.name.clone(),
        identity_status: row.identity_status.to_string(),
        roles: node.roles.iter().map(ToString::to_string).collect(),
        overlay_ipv4: addresses.map(|(ipv4, _)| ipv4.to_string()).unwrap_or_default(),
        overlay_ipv6: addresses.map(|(_, ipv6)| ipv6.to_string()).unwrap_or_default(),
        node_public_key: node.node_public_key.to_vec(),
        last_seen_at_ms: contact.map_or(0, |contact| contact.last_seen_at.0),
        connected: acknowledged.is_some(),
        acked_version: acknowledged.or(known.map(|known| known.acked.1)).unwrap_or(0),
        agent_version: known.map(|known| known.agent_version.clone()).unwrap_or_default(),
        link_endpoints: node.facts.link_endpoints.clone(),
        wireguard_endpoints: node.facts.wireguard_endpoints.clone(),
        region: node.facts.region.clone(),
        tags: node.facts.tags.clone(),
        last_reject: known.map(|known| known.last_reject.clone()).unwrap_or_default(),
        revocation: gone.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        key_generation: row.key_generation,
        ephemeral: node.ephemeral,
        refused: String::new(),
        ..v1::Node::default()
    }
}

/// Says of nodes without a stream here which ones have it to another replica.
pub(crate) fn mark_elsewhere(nodes: &mut [v1::Node], elsewhere: &[NodeElsewhere]) {
    let elsewhere: BTreeSet<&[u8]> = elsewhere.iter().map(|one| one.node.as_bytes().as_slice()).collect();
    for node in nodes.iter_mut().filter(|node| !node.connected) {
        node.elsewhere = elsewhere.contains(node.node_id.as_slice());
        node.connected = node.elsewhere;
    }
}

pub(crate) fn pending(row: &JoinRequestRow, roles: &[rap_types::Role]) -> v1::PendingNode {
    v1::PendingNode {
        request_id: row.request.request.to_vec(),
        cluster_id: row.request.cluster.to_vec(),
        name: row.request.name.clone(),
        node_public_key: row.request.node_public_key.to_vec(),
        requested_at_ms: row.requested_at.0,
        source: row.request.source.clone(),
        roles: roles.iter().map(ToString::to_string).collect(),
        refused: String::new(),
    }
}
