//! Organizations and their members.

use rap_authority::RowKeys;
use rap_types::OrganizationId;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Result;
use crate::authentic::{all_verified, insert, verified};
use crate::columns::statements;
use crate::row::{authentic_row, select};
use crate::transaction::SystemTransaction;

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
    ORGANIZATION_BY_NAME = select!(OrganizationRow, "WHERE name = $1");
    ORGANIZATIONS_LIST = select!(OrganizationRow, "ORDER BY name LIMIT 10000");
    MEMBERS_LIST = select!(MemberRow, "WHERE organization_id = $1 ORDER BY name LIMIT 10000");
}

/// Adds an organization. Its name is unique ([`StoreError::Exists`]).
pub async fn organization_insert(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    new: &OrganizationRow,
) -> Result<()> {
    insert(transaction, keys, new).await
}

/// The organization with this name, if the caller's role may see it.
pub async fn organization_by_name(
    connection: &mut PgConnection,
    keys: &RowKeys,
    name: &str,
) -> Result<Option<OrganizationRow>> {
    verified(sqlx::query_as(ORGANIZATION_BY_NAME).bind(name), connection, keys).await
}

/// The organizations the caller's role may see: role `app` its own, role `system` all.
pub async fn organizations_list(
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<Vec<OrganizationRow>> {
    all_verified(sqlx::query_as(ORGANIZATIONS_LIST), connection, keys).await
}

/// Adds a member.
pub async fn member_insert(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    new: &MemberRow,
) -> Result<()> {
    insert(transaction, keys, new).await
}

/// Members of an organization, by name.
pub async fn members_list(
    connection: &mut PgConnection,
    keys: &RowKeys,
    organization: OrganizationId,
) -> Result<Vec<MemberRow>> {
    all_verified(sqlx::query_as(MEMBERS_LIST).bind(organization.uuid()), connection, keys).await
}
