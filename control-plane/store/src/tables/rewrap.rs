//! Values that the key encryption key sealed, read and replaced during its rotation.
//!
//! Owns the statements. The caller runs them in one transaction, so either everything is sealed under the new key or
//! nothing is.

use rap_authority::RowKeys;
use rap_types::ClusterId;
use sqlx::PgConnection;

use super::data_keys::DekRow;
use super::operators::OperatorRow;
use super::organizations::{MemberRow, OrganizationRow};
use super::rows::Again;
use crate::Result;
use crate::authentic::{Authentic, Stored};
use crate::columns::{counter, read, statements};
use crate::row::select;

statements! {
    INSTALLATION_HOLD = "SELECT 1 AS held FROM installation_authority FOR UPDATE";
    INSTALLATION_REWRAP = "UPDATE installation_authority SET sealed_private_key = $1, \
        sealed_tls_ca_key = $2, row_version = row_version + 1";
    DEKS_ALL = "SELECT cluster_id, key_version, wrapped_dek FROM cluster_deks ORDER BY cluster_id, key_version";
    DEK_REWRAP = "UPDATE cluster_deks SET wrapped_dek = $3 WHERE cluster_id = $1 AND key_version = $2";
    OPERATORS_HELD = select!(OperatorRow, "ORDER BY operator_id FOR UPDATE");
    ORGANIZATIONS_HELD = select!(OrganizationRow, "ORDER BY organization_id FOR UPDATE");
    MEMBERS_HELD = select!(MemberRow, "ORDER BY organization_id, member_id FOR UPDATE");
    LOG_KEYS_SEALED = "SELECT generation, sealed_private_key FROM audit_log_keys ORDER BY generation";
    LOG_KEY_REWRAP = "UPDATE audit_log_keys SET sealed_private_key = $2 WHERE generation = $1";
}

/// Keeps every other rotation, and every new cluster, waiting until the transaction ends.
pub async fn installation_hold(connection: &mut PgConnection) -> Result<()> {
    sqlx::query(INSTALLATION_HOLD).fetch_one(connection).await?;
    Ok(())
}

/// Replaces the installation's two sealed keys.
pub async fn installation_rewrap(
    connection: &mut PgConnection,
    sealed_private_key: &[u8],
    sealed_tls_ca_key: &[u8],
) -> Result<()> {
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
) -> Result<()> {
    reseal::<OperatorRow>(connection, OPERATORS_HELD, old, new).await?;
    reseal::<OrganizationRow>(connection, ORGANIZATIONS_HELD, old, new).await?;
    reseal::<MemberRow>(connection, MEMBERS_HELD, old, new).await
}

async fn reseal<R: Authentic>(
    connection: &mut PgConnection,
    held: &'static str,
    old: &RowKeys,
    new: &RowKeys,
) -> Result<()> {
    let rows: Vec<Stored<R>> = sqlx::query_as(held).fetch_all(&mut *connection).await?;
    let mut again = Again::default();
    for row in rows {
        let (row, row_version) = row.opened(old)?;
        again.add(&row, row_version, new)?;
    }
    again.write(connection, R::RESEAL).await?;
    Ok(())
}

/// The data keys of every cluster, retired ones included.
pub async fn deks_all(connection: &mut PgConnection) -> Result<Vec<DekRow>> {
    Ok(sqlx::query_as(DEKS_ALL).fetch_all(connection).await?)
}

/// Replaces one wrapped data key.
pub async fn dek_rewrap(
    connection: &mut PgConnection,
    cluster: ClusterId,
    key_version: u64,
    wrapped_dek: &[u8],
) -> Result<()> {
    sqlx::query(DEK_REWRAP)
        .bind(cluster.uuid())
        .bind(counter("key_version", key_version)?)
        .bind(wrapped_dek)
        .execute(connection)
        .await?;
    Ok(())
}

/// The sealed key of every generation of the audit log.
pub async fn log_keys_sealed(connection: &mut PgConnection) -> Result<Vec<(u64, Vec<u8>)>> {
    let rows = sqlx::query(LOG_KEYS_SEALED).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((read(row, "generation")?, read(row, "sealed_private_key")?))).collect()
}

/// Replaces one sealed key of the audit log.
pub async fn log_key_rewrap(
    connection: &mut PgConnection,
    generation: u64,
    sealed_private_key: &[u8],
) -> Result<()> {
    sqlx::query(LOG_KEY_REWRAP)
        .bind(counter("generation", generation)?)
        .bind(sealed_private_key)
        .execute(connection)
        .await?;
    Ok(())
}
