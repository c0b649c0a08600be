//! A node's row: its columns, and which of them its MAC covers.

use rap_authority::Columns;
use rap_types::{ClusterId, IdentityStatus, NodeId, OrganizationId, Role, Wall};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::authentic::Authentic;
use crate::columns::{bytes32, id, id_option, texts, unsigned, wall, word, words};
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

impl Authentic for NodeRow {
    const TABLE: &'static str = "nodes";
    const KEY: &'static [&'static str] = &["node_id"];

    fn decode(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            node: NewNodeRow {
                node: id(row, "node_id")?,
                cluster: id(row, "cluster_id")?,
                organization: id_option(row, "organization_id")?,
                name: row.try_get("name")?,
                node_public_key: bytes32(row, "node_public_key")?,
                wireguard_public_key: bytes32(row, "wireguard_public_key")?,
                host_number: unsigned(row, "host_number")?,
                roles: words(row, "roles")?,
                ephemeral: row.try_get("ephemeral")?,
                facts: NodeFacts {
                    link_endpoints: row.try_get("link_endpoints")?,
                    wireguard_endpoints: row.try_get("wireguard_endpoints")?,
                    region: row.try_get("region")?,
                    tags: row.try_get("tags")?,
                    capabilities: row.try_get("capabilities")?,
                },
            },
            identity_status: word(row, "identity_status")?,
            key_generation: unsigned(row, "key_generation")?,
            created_at: wall(row, "created_at")?,
            contact: Contact::of_joined(row)?,
        })
    }

    fn key(&self) -> String {
        self.node.node.to_string()
    }

    fn columns(&self) -> Columns {
        covered(&self.node, self.identity_status, self.key_generation)
    }
}

/// The columns of a node's row, and its whole set of roles from `node_roles`.
pub(super) fn covered(node: &NewNodeRow, identity_status: IdentityStatus, key_generation: u64) -> Columns {
    let mut roles = texts(&node.roles);
    roles.sort_unstable();
    roles.dedup();
    let facts = &node.facts;
    Columns::new()
        .bytes(node.cluster.as_bytes())
        .option(node.organization.as_ref().map(|id| id.as_bytes().as_slice()))
        .text(&node.name)
        .bytes(&node.node_public_key)
        .bytes(&node.wireguard_public_key)
        .text(identity_status.as_str())
        .number(node.host_number.into())
        .words(&facts.link_endpoints)
        .words(&facts.wireguard_endpoints)
        .text(&facts.region)
        .words(&facts.tags)
        .words(&facts.capabilities)
        .flag(node.ephemeral)
        .number(key_generation)
        .words(&roles)
}
