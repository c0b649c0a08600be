//! Rows of a cluster of any size, and one changed row.
//!
//! Owns the fixture of the planner's measurements. Refuses to own what is measured.

use std::collections::BTreeMap;

use rap_planner::{ClusterRows, Limits, MapKey, NodeRow};
use rap_types::{ClusterId, Digest, Incarnation, InstallationId, NodeId, Role, Version};

/// The key of the Merkle map.
pub fn key() -> MapKey {
    MapKey::from_bytes([9; 32])
}

fn node(number: u32) -> NodeRow {
    let digest = *Digest::of(&[&number.to_be_bytes()]).as_bytes();
    let mut wireguard_key = digest;
    wireguard_key[31] &= 0x7f;
    NodeRow {
        node: NodeId::from_slice(&digest[..16]).expect("16 bytes"),
        name: format!("node-{number}"),
        node_public_key: digest,
        wireguard_public_key: wireguard_key,
        organization: None,
        roles: vec![Role::Core],
        capabilities: Vec::new(),
        draining: false,
        tags: Vec::new(),
        region: "region".into(),
        link_endpoints: vec![format!("node-{number}.example.net:7443")],
        wireguard_endpoints: vec![format!("node-{number}.example.net:51820")],
        host_number: number,
        key_generation: 1,
    }
}

/// Rows of a cluster in which every node sees every other one, at version 1.
pub fn rows(nodes: u32) -> ClusterRows {
    ClusterRows {
        installation: InstallationId::from_bytes([1; 16]),
        cluster: ClusterId::from_bytes([2; 16]),
        name: "bench".into(),
        incarnation: Incarnation(1),
        version: Version(1),
        ipv4_pool: "100.96.0.0/16".parse().expect("a prefix"),
        cluster_ca: vec![1; 500],
        next_ca: None,
        degraded_for_ms: 43_200_000,
        leaf_lifetime_ms: 86_400_000,
        mtu: 1280,
        link_probe_interval_ms: 1_000,
        wireguard_keepalive_s: 25,
        nodes: (1..=nodes).map(node).collect(),
        wireguard_key_max_age_ms: 0,
        identity_key_max_age_ms: 0,
        degraded_ends: Vec::new(),
        survive_forever_roles: Vec::new(),
        gone: Vec::new(),
        revocations: Default::default(),
        leaves: BTreeMap::new(),
        limits: Limits { peers: usize::MAX, plain_peers: usize::MAX, update_bytes: usize::MAX },
        loopback: rap_types::sense::Loopback::Refused,
    }
}

/// What the first node's change leaves to be read: its row and the cluster's facts, at version 2.
pub fn changed(rows: &ClusterRows, change: impl Fn(&mut NodeRow)) -> ClusterRows {
    let mut node = rows.nodes[0].clone();
    change(&mut node);
    ClusterRows { version: Version(2), nodes: vec![node], ..rows.clone() }
}
