//! A node's row: its columns, and which of them its MAC covers.

use rap_authority::Columns;
use rap_types::{ClusterId, IdentityStatus, NodeId, OrganizationId, Role, Wall};
use sqlx::postgres::PgRow;

use crate::columns::{read, texts};
use crate::row::{Joined, authentic_row};
use crate::tables::contacts::Contact;

/// What admitting a node writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNodeRow {
    /// Id.
    pub node: NodeId,
    /// Cluster.
    pub cluster: ClusterId,
    /// Organization; `None` for the platform's own.
    pub organization: Option<OrganizationId>,
    /// Name, unique among the cluster's present nodes.
    pub name: String,
    /// Identity key, unique among the cluster's present nodes.
    pub node_public_key: [u8; 32],
    /// WireGuard key, unique among the cluster's present nodes.
    pub wireguard_public_key: [u8; 32],
    /// Number from [`crate::host_number_allocate`].
    pub host_number: u32,
    /// Assigned roles.
    pub roles: Vec<Role>,
    /// Vanishes after absence.
    pub ephemeral: bool,
    /// The rest of what is signed.
    pub facts: NodeFacts,
}

/// Signed facts that may change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Link endpoints, host:port.
    pub link_endpoints: Vec<String>,
    /// WireGuard endpoints, host:port.
    pub wireguard_endpoints: Vec<String>,
    /// Region hint; may be empty.
    pub region: String,
    /// Free labels.
    pub tags: Vec<String>,
    /// What the host says it can do; never a permission.
    pub capabilities: Vec<String>,
}

impl NewNodeRow {
    /// The row at its first version, active.
    pub(super) fn first(&self) -> NodeRow {
        NodeRow {
            node: self.clone(),
            identity_status: IdentityStatus::Active,
            key_generation: 1,
            created_at: Wall(0),
            contact: None,
        }
    }
}

/// A node as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// As admitted, with the present facts and roles.
    pub node: NewNodeRow,
    /// Where its identity is in its life.
    pub identity_status: IdentityStatus,
    /// Certificate generation, from 1.
    pub key_generation: u64,
    /// When it was admitted.
    pub created_at: Wall,
    /// Its last contact, if there was one.
    pub contact: Option<Contact>,
}

authentic_row! {
    NodeRow {
        node: NewNodeRow {
            node: node_id, cluster: cluster_id, organization: organization_id, name, node_public_key,
            wireguard_public_key, host_number, roles, ephemeral,
            facts: NodeFacts { link_endpoints, wireguard_endpoints, region, tags, capabilities },
        },
        identity_status, key_generation, created_at, contact,
    }
    in "nodes";
    key node_id;
    cluster_id: Fixed, organization_id: Changes, name: Changes, node_public_key: Changes,
    wireguard_public_key: Changes, identity_status: Changes, host_number: Changes, link_endpoints: Changes,
    wireguard_endpoints: Changes, region: Changes, tags: Changes, capabilities: Changes, ephemeral: Changes,
    key_generation: Changes, created_at: Shown;
    sets "status_at = CASE WHEN identity_status <> $7 THEN clock_timestamp() ELSE status_at END";
    joins "LEFT JOIN node_contacts USING (node_id)":
        roles = "ARRAY(SELECT r.role FROM node_roles r WHERE r.node_id = nodes.node_id ORDER BY r.role) AS roles",
        contact = "CASE WHEN isfinite(last_seen_at) THEN last_seen_at END AS last_seen_at, agent_version, \
            acked_incarnation, acked_version, last_reject, certificate_ca";
}

/// The whole set of a node's roles, from `node_roles`.
impl Joined for Vec<Role> {
    fn read(row: &PgRow) -> sqlx::Result<Self> {
        read(row, "roles")
    }

    fn cover(&self, columns: Columns) -> Columns {
        let mut roles = texts(self);
        roles.sort_unstable();
        roles.dedup();
        columns.words(roles)
    }
}
