//! Organizations and their members.

use rap_authority::{Columns, RowKeys};
use rap_types::OrganizationId;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::StoreError;
use crate::authentic::{Authentic, all_verified, verified};
use crate::columns::{id, statements};

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

impl Authentic for OrganizationRow {
    const TABLE: &'static str = "organizations";
    const KEY: &'static [&'static str] = &["organization_id"];

    fn decode(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { organization: id(row, "organization_id")?, name: row.try_get("name")? })
    }

    fn key(&self) -> String {
        self.organization.to_string()
    }

    fn columns(&self) -> Columns {
        Columns::new().text(&self.name)
    }
}

impl Authentic for MemberRow {
    const TABLE: &'static str = "organization_members";
    const KEY: &'static [&'static str] = &["organization_id", "member_id"];

    fn decode(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            organization: id(row, "organization_id")?,
            member: row.try_get("member_id")?,
            name: row.try_get("name")?,
            organization_role: row.try_get("organization_role")?,
        })
    }

    fn key(&self) -> String {
        format!("{}/{}", self.organization, self.member)
    }

    fn columns(&self) -> Columns {
        Columns::new().text(&self.name).text(&self.organization_role)
    }
}

statements! {
    ORGANIZATION_INSERT = "INSERT INTO organizations (organization_id, name, row_mac) VALUES ($1, $2, $3)";
    ORGANIZATION_BY_NAME =
        "SELECT organization_id, name, row_version, row_mac FROM organizations WHERE name = $1";
    ORGANIZATIONS_LIST =
        "SELECT organization_id, name, row_version, row_mac FROM organizations ORDER BY name LIMIT 10000";
    ORGANIZATIONS_ALL =
        "SELECT organization_id, name, row_version, row_mac FROM organizations ORDER BY organization_id";
    MEMBERS_ALL = "SELECT organization_id, member_id, name, organization_role, row_version, row_mac \
        FROM organization_members ORDER BY organization_id, member_id";
    MEMBER_INSERT = "INSERT INTO organization_members \
        (organization_id, member_id, name, organization_role, row_mac) VALUES ($1, $2, $3, $4, $5)";
    MEMBERS_LIST = "SELECT organization_id, member_id, name, organization_role, row_version, row_mac \
        FROM organization_members WHERE organization_id = $1 ORDER BY name LIMIT 10000";
}

/// Adds an organization. Its name is unique ([`StoreError::Exists`]).
pub async fn organization_insert(
    connection: &mut PgConnection,
    keys: &RowKeys,
    new: &OrganizationRow,
) -> Result<(), StoreError> {
    sqlx::query(ORGANIZATION_INSERT)
        .bind(new.organization.uuid())
        .bind(&new.name)
        .bind(new.mac(keys, 1))
        .execute(connection)
        .await?;
    Ok(())
}

/// The organization with this name, if the caller's role may see it.
pub async fn organization_by_name(
    connection: &mut PgConnection,
    keys: &RowKeys,
    name: &str,
) -> Result<Option<OrganizationRow>, StoreError> {
    verified(
        sqlx::query_as(ORGANIZATION_BY_NAME).bind(name).fetch_optional(&mut *connection).await?,
        connection,
        keys,
    )
    .await
}

/// The organizations the caller's role may see: role `app` its own, role `system` all.
pub async fn organizations_list(
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<Vec<OrganizationRow>, StoreError> {
    all_verified(sqlx::query_as(ORGANIZATIONS_LIST).fetch_all(&mut *connection).await?, connection, keys)
        .await
}

/// Adds a member.
pub async fn member_insert(
    connection: &mut PgConnection,
    keys: &RowKeys,
    new: &MemberRow,
) -> Result<(), StoreError> {
    sqlx::query(MEMBER_INSERT)
        .bind(new.organization.uuid())
        .bind(new.member)
        .bind(&new.name)
        .bind(&new.organization_role)
        .bind(new.mac(keys, 1))
        .execute(connection)
        .await?;
    Ok(())
}

/// Members of an organization, by name.
pub async fn members_list(
    connection: &mut PgConnection,
    keys: &RowKeys,
    organization: OrganizationId,
) -> Result<Vec<MemberRow>, StoreError> {
    let query = sqlx::query_as(MEMBERS_LIST).bind(organization.uuid());
    all_verified(query.fetch_all(&mut *connection).await?, connection, keys).await
}
