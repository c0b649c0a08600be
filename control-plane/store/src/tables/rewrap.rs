//! What the key encryption key sealed, read and replaced when that key is.
//!
//! Owns the statements. The caller runs them in one transaction: either everything is sealed by the new
//! key or nothing is.

use rap_authority::RowKeys;
use rap_types::ClusterId;
use sqlx::{PgConnection, Row};

use crate::StoreError;
use crate::authentic::Stored;
use crate::columns::{counter, id, statements, unsigned};
use crate::tables::cluster_keys::DekRow;
use crate::tables::operators::OperatorRow;
use crate::tables::organizations::{MemberRow, OrganizationRow};

statements! {
    INSTALLATION_HOLD = "SELECT 1 AS held FROM installation_authority FOR UPDATE";
    INSTALLATION_REWRAP = "UPDATE installation_authority SET sealed_private_key = $1, \
        sealed_tls_ca_key = $2, row_version = row_version + 1";
    DEKS_ALL = "SELECT cluster_id, key_version, wrapped_dek FROM cluster_deks ORDER BY cluster_id, key_version";
    DEK_REWRAP = "UPDATE cluster_deks SET wrapped_dek = $3 WHERE cluster_id = $1 AND key_version = $2";
    OPERATORS_HELD = "SELECT operator_id, name, public_key, platform_role, disabled_at, row_version, row_mac \
        FROM operators FOR UPDATE";
    OPERATOR_MAC = "UPDATE operators SET row_mac = $2 WHERE operator_id = $1";
    ORGANIZATIONS_HELD = "SELECT organization_id, name, row_version, row_mac FROM organizations FOR UPDATE";
    ORGANIZATION_MAC = "UPDATE organizations SET row_mac = $2 WHERE organization_id = $1";
    MEMBERS_HELD = "SELECT organization_id, member_id, name, organization_role, row_version, row_mac \
        FROM organization_members FOR UPDATE";
    MEMBER_MAC = "UPDATE organization_members SET row_mac = $3 WHERE organization_id = $1 AND member_id = $2";
    LOG_KEYS_SEALED = "SELECT generation, sealed_private_key FROM audit_log_keys ORDER BY generation";
    LOG_KEY_REWRAP = "UPDATE audit_log_keys SET sealed_private_key = $2 WHERE generation = $1";
}

/// Keeps every other rotation, and every new cluster, waiting until the transaction ends.
pub async fn installation_hold(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query(INSTALLATION_HOLD).fetch_one(connection).await?;
    Ok(())
}

/// Replaces the installation's two sealed keys.
pub async fn installation_rewrap(
    connection: &mut PgConnection,
    sealed_private_key: &[u8],
    sealed_tls_ca_key: &[u8],
) -> Result<(), StoreError> {
    sqlx::query(INSTALLATION_REWRAP)
        .bind(sealed_private_key)
        .bind(sealed_tls_ca_key)
        .execute(connection)
        .await?;
    Ok(())
}

/// Seals the installation's own rows under `new`, each after it was verified under `old`.
///
/// # Errors
/// [`StoreError::Tampered`]: a row that does not hold is not made to.
pub async fn installation_rows_reseal(
    connection: &mut PgConnection,
    old: &RowKeys,
    new: &RowKeys,
) -> Result<(), StoreError> {
    let rows: Vec<Stored<OperatorRow>> = sqlx::query_as(OPERATORS_HELD).fetch_all(&mut *connection).await?;
    for row in rows {
        let held = row.held(old)?;
        let query = sqlx::query(OPERATOR_MAC).bind(held.operator.uuid()).bind(held.same_mac(new));
        query.execute(&mut *connection).await?;
    }
    let rows: Vec<Stored<OrganizationRow>> =
        sqlx::query_as(ORGANIZATIONS_HELD).fetch_all(&mut *connection).await?;
    for row in rows {
        let held = row.held(old)?;
        let query = sqlx::query(ORGANIZATION_MAC).bind(held.organization.uuid()).bind(held.same_mac(new));
        query.execute(&mut *connection).await?;
    }
    let rows: Vec<Stored<MemberRow>> = sqlx::query_as(MEMBERS_HELD).fetch_all(&mut *connection).await?;
    for row in rows {
        let held = row.held(old)?;
        let query = sqlx::query(MEMBER_MAC).bind(held.organization.uuid()).bind(held.member);
        query.bind(held.same_mac(new)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The data keys of every cluster, retired ones included.
pub async fn deks_all(connection: &mut PgConnection) -> Result<Vec<DekRow>, StoreError> {
    let rows = sqlx::query(DEKS_ALL).fetch_all(connection).await?;
    let read = |row: &sqlx::postgres::PgRow| -> sqlx::Result<DekRow> {
        Ok(DekRow {
            cluster: id(row, "cluster_id")?,
            key_version: unsigned(row, "key_version")?,
            wrapped_dek: row.try_get("wrapped_dek")?,
        })
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Replaces one wrapped data key.
pub async fn dek_rewrap(
    connection: &mut PgConnection,
    cluster: ClusterId,
    key_version: u64,
    wrapped_dek: &[u8],
) -> Result<(), StoreError> {
    sqlx::query(DEK_REWRAP)
        .bind(cluster.uuid())
        .bind(counter("key_version", key_version)?)
        .bind(wrapped_dek)
        .execute(connection)
        .await?;
    Ok(())
}

/// The sealed key of every generation of the audit log.
pub async fn log_keys_sealed(connection: &mut PgConnection) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let rows = sqlx::query(LOG_KEYS_SEALED).fetch_all(connection).await?;
    let read = |row: &sqlx::postgres::PgRow| -> sqlx::Result<(u64, Vec<u8>)> {
        Ok((unsigned(row, "generation")?, row.try_get("sealed_private_key")?))
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Replaces one sealed key of the audit log.
pub async fn log_key_rewrap(
    connection: &mut PgConnection,
    generation: u64,
    sealed_private_key: &[u8],
) -> Result<(), StoreError> {
    sqlx::query(LOG_KEY_REWRAP)
        .bind(counter("generation", generation)?)
        .bind(sealed_private_key)
        .execute(connection)
        .await?;
    Ok(())
}
