//! Organizations and their members.

use rap_types::OrganizationId;
use uuid::Uuid;

use crate::authentic::{all_verified, insert, verified};
use crate::query::statements;
use crate::row::{authentic_row, select};

/// An organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganizationRow {
    /// Id.
    pub organization: OrganizationId,
    /// Unique name.
    pub name: String,
}

/// A member of an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    /// Organization.
    pub organization: OrganizationId,
    /// Member.
    pub member: Uuid,
    /// Name, unique in the organization.
    pub name: String,
    /// `organization_owner`, `organization_admin` or `organization_user`.
    pub organization_role: String,
}

authentic_row! {
    OrganizationRow { organization: organization_id, name } in "organizations";
    key organization_id;
    name: Fixed;
}

authentic_row! {
    MemberRow { organization: organization_id, member: member_id, name, organization_role }
    in "organization_members";
    key organization_id, member_id;
    name: Fixed, organization_role: Fixed;
}

statements! {
    /// The organization with this name, if the caller's role may see it.
    pub async fn organization_by_name(keys, name: &str) -> Option<OrganizationRow> = verified
        select!(OrganizationRow, "WHERE name = $1");
    /// The organizations the caller's role may see: role `app` its own, role `system` all.
    pub async fn organizations_list(keys) -> Vec<OrganizationRow> = all_verified
        select!(OrganizationRow, "ORDER BY name LIMIT 10000");
    /// Members of an organization, by name.
    pub async fn members_list(keys, organization: OrganizationId) -> Vec<MemberRow> = all_verified
        select!(MemberRow, "WHERE organization_id = $1 ORDER BY name LIMIT 10000");
    /// Adds an organization. Its name is unique ([`crate::StoreError::Exists`]).
    pub async fn organization_insert(keys, new: &OrganizationRow) = insert;
    /// Adds a member.
    pub async fn member_insert(keys, new: &MemberRow) = insert;
}
