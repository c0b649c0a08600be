//! From stored rows to the rows that the planner plans with.

use std::sync::Arc;

use rap_authority::{DegradedPolicy, NodeLifecyclePolicy};
use rap_contract::RevocationChain;
use rap_planner::{ClusterRows, LeafMemory, Limits, NodeRow};
use rap_store::{LeafRow, PlannerRows};
use rap_types::sense::Loopback;
use rap_types::{IdentityStatus, Incarnation, Version};

use crate::failure::Failure;
use crate::keys::handle::Keys;
use crate::serve::cluster_cas::planned;

pub(crate) fn planner_input(
    keys: &Keys,
    rows: &PlannerRows,
    revocations: Arc<RevocationChain>,
    (policy, degraded): (NodeLifecyclePolicy, DegradedPolicy),
    loopback: Loopback,
) -> Result<ClusterRows, Failure> {
    tracing::trace!(way = "rows become the input of the planner");
    let row = &rows.cluster.cluster;
    let (cluster_ca, next_ca) = planned(&rows.cas)?;
    let nodes = rows.nodes.iter().map(|stored| {
        let node = &stored.node;
        NodeRow {
            node: node.node,
            name: node.name.clone(),
            node_public_key: node.node_public_key,
            wireguard_public_key: node.wireguard_public_key,
            organization: node.organization,
            roles: node.roles.clone(),
            // A word that only a newer agent knows counts for nothing here.
            capabilities: node.facts.capabilities.iter().filter_map(|word| word.parse().ok()).collect(),
            draining: stored.identity_status == IdentityStatus::Draining,
            tags: node.facts.tags.clone(),
            region: node.facts.region.clone(),
            link_endpoints: node.facts.link_endpoints.clone(),
            wireguard_endpoints: node.facts.wireguard_endpoints.clone(),
            host_number: node.host_number,
            key_generation: stored.key_generation,
        }
    });
    Ok(ClusterRows {
        installation: keys.installation.facts.id,
        cluster: row.cluster,
        name: row.name.clone(),
        incarnation: Incarnation(row.incarnation),
        version: Version(rows.cluster.config_seq),
        ipv4_pool: row.ipv4_pool,
        cluster_ca,
        next_ca,
        degraded_for_ms: row.degraded_for_ms,
        leaf_lifetime_ms: row.leaf_lifetime_ms,
        mtu: MTU,
        link_probe_interval_ms: LINK_PROBE_INTERVAL_MS,
        wireguard_keepalive_s: WIREGUARD_KEEPALIVE_S,
        nodes: nodes.collect(),
        gone: rows.gone.iter().map(|stored| stored.node.node).collect(),
        revocations,
        wireguard_key_max_age_ms: policy.wireguard_key_max_age_ms,
        identity_key_max_age_ms: policy.identity_key_max_age_ms,
        degraded_ends: degraded.ends,
        survive_forever_roles: degraded.survive_forever_roles,
        leaves: rows.leaves.iter().map(|leaf| (leaf.node, memory(leaf))).collect(),
        limits: Limits::default(),
        loopback,
    })
}

fn memory(leaf: &LeafRow) -> LeafMemory {
    LeafMemory { generation: leaf.node_generation, manifest_root: leaf.manifest_root }
}

const MTU: u32 = 1280;

const LINK_PROBE_INTERVAL_MS: u32 = 10_000;

const WIREGUARD_KEEPALIVE_S: u32 = 25;
