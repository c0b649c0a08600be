//! What the planner reads: the rows of one cluster at one `config_seq`, all of them or those that changed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use rap_contract::RevocationChain;
use rap_types::sense::Loopback;
use rap_types::{
    Capability, ClusterId, Digest, Incarnation, InstallationId, NodeId, OrganizationId, Role, Version,
};

use crate::{Limits, addressing};

/// One cluster at one version, read in one REPEATABLE READ transaction. For [`crate::Plan::next`] only the
/// nodes and leaves that changed since the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterRows {
    /// Installation the cluster belongs to.
    pub installation: InstallationId,
    /// Cluster.
    pub cluster: ClusterId,
    /// Its name.
    pub name: String,
    /// Life of the database.
    pub incarnation: Incarnation,
    /// The `config_seq` these rows are the state of.
    pub version: Version,
    /// IPv4 overlay pool.
    pub ipv4_pool: Ipv4Net,
    /// DER certificate of the cluster's CA; of the older one while it is rotated.
    pub cluster_ca: Vec<u8>,
    /// The newer one while it is rotated.
    pub next_ca: Option<NextCa>,
    /// How long a node may work past `fresh_until`.
    pub degraded_for_ms: u64,
    /// Lifetime of a node certificate.
    pub leaf_lifetime_ms: u64,
    /// Interface MTU.
    pub mtu: u32,
    /// Probe interval of an idle link.
    pub link_probe_interval_ms: u32,
    /// WireGuard persistent keepalive, seconds.
    pub wireguard_keepalive_s: u32,
    /// Age at which a node replaces its WireGuard key by itself; 0 = never.
    pub wireguard_key_max_age_ms: u64,
    /// Age at which a node replaces its identity key by itself; 0 = never.
    pub identity_key_max_age_ms: u64,
    /// Activities that end at `fresh_until`.
    pub degraded_ends: Vec<String>,
    /// Roles whose peers outlast `degraded_until`.
    pub survive_forever_roles: Vec<String>,
    /// Members, any order.
    pub nodes: Vec<NodeRow>,
    /// Nodes whose rows say that they are gone, any order.
    pub gone: Vec<NodeId>,
    /// The verified chain of revocations: what is said of them comes from here alone.
    pub revocations: Arc<RevocationChain>,
    /// What the newest head says of nodes that it names.
    pub leaves: BTreeMap<NodeId, LeafMemory>,
    /// Limits of one node's scope.
    pub limits: Limits,
    /// Whether endpoints on the own host are published: the same at every replica.
    pub loopback: Loopback,
}

/// The newer CA of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextCa {
    /// DER certificate.
    pub certificate: Vec<u8>,
    /// It signs node certificates, not the older one.
    pub issues: bool,
}

/// One member node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Node.
    pub node: NodeId,
    /// Name, unique in the cluster.
    pub name: String,
    /// Ed25519 identity key.
    pub node_public_key: [u8; 32],
    /// X25519 WireGuard key.
    pub wireguard_public_key: [u8; 32],
    /// Tenant; `None` for the platform's own.
    pub organization: Option<OrganizationId>,
    /// Assigned roles.
    pub roles: Vec<Role>,
    /// What the host says it can do.
    pub capabilities: Vec<Capability>,
    /// Whether it is about to leave: it takes no new duty.
    pub draining: bool,
    /// Free labels.
    pub tags: Vec<String>,
    /// Region hint.
    pub region: String,
    /// Signed link endpoints, host:port.
    pub link_endpoints: Vec<String>,
    /// Signed WireGuard endpoints, host:port.
    pub wireguard_endpoints: Vec<String>,
    /// Host number, from 1, unique in the cluster.
    pub host_number: u32,
    /// Certificate generation.
    pub key_generation: u64,
}

/// A node's manifest as last published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafMemory {
    /// Version at which the manifest last changed.
    pub generation: u64,
    /// Its root.
    pub manifest_root: Digest,
}

impl ClusterRows {
    /// The cluster's IPv6 prefix.
    pub fn ipv6_prefix(&self) -> Ipv6Net {
        addressing::ipv6_prefix(self.cluster)
    }

    /// Overlay addresses of a node of this cluster; `None` if its number is outside the pool.
    pub fn addresses(&self, node: &NodeRow) -> Option<(Ipv4Addr, Ipv6Addr)> {
        addressing::addresses(self.cluster, self.ipv4_pool, node.host_number)
    }
}
