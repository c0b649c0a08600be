//! Values that the key encryption key sealed, read and replaced during its rotation.
//!
//! Owns the statements. The caller runs them in one transaction, so either everything is sealed under the new key or
//! nothing is.

use rap_authority::RowKeys;
use rap_types::ClusterId;
use sqlx::PgConnection;

use super::data_keys::DekRow;
use super::idempotency::IdempotencyRow;
use super::operators::OperatorRow;
use super::organizations::{MemberRow, OrganizationRow};
use super::rows::Again;
use crate::authentic::{Authentic, Stored};
use crate::counted::one_row;
use crate::query::{all, one, statements};
use crate::row::select;
use crate::{Result, StoreError};

statements! {
    /// Keeps every other rotation, and every new cluster, waiting until the transaction ends.
    pub async fn installation_hold() -> () = one "SELECT 1 AS held FROM installation_authority FOR UPDATE";
    /// Replaces the installation's two sealed keys.
    pub async fn installation_rewrap(sealed_private_key: &[u8], sealed_tls_ca_key: &[u8]) -> () = one_row
        "UPDATE installation_authority SET sealed_private_key = $1, \
        sealed_tls_ca_key = $2, row_version = row_version + 1";
    /// The data keys of every cluster, retired ones included.
    pub async fn deks_all() -> Vec<DekRow> = all
        "SELECT cluster_id, key_version, wrapped_dek FROM cluster_deks ORDER BY cluster_id, key_version";
    /// Replaces one wrapped data key.
    pub async fn dek_rewrap(cluster: ClusterId, key_version: u64, wrapped_dek: &[u8]) -> () = one_row
        "UPDATE cluster_deks SET wrapped_dek = $3 WHERE cluster_id = $1 AND key_version = $2";
    OPERATORS_HELD = select!(OperatorRow, "ORDER BY operator_id FOR UPDATE");
    ORGANIZATIONS_HELD = select!(OrganizationRow, "ORDER BY organization_id FOR UPDATE");
    IDEMPOTENCY_HELD = select!(IdempotencyRow, "ORDER BY actor, idempotency_key FOR UPDATE");
    MEMBERS_HELD = select!(MemberRow, "ORDER BY organization_id, member_id FOR UPDATE");
    /// The sealed key of every generation of the audit log.
    pub async fn log_keys_sealed() -> Vec<(u64, Vec<u8>)> = all
        "SELECT generation, sealed_private_key FROM audit_log_keys ORDER BY generation";
    /// Replaces one sealed key of the audit log.
    pub async fn log_key_rewrap(generation: u64, sealed_private_key: &[u8]) -> () = one_row
        "UPDATE audit_log_keys SET sealed_private_key = $2 WHERE generation = $1";
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
    reseal::<IdempotencyRow>(connection, IDEMPOTENCY_HELD, old, new).await?;
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
    let held = again.rows();
    match again.write(connection, R::RESEAL).await? {
        written if written == held => Ok(()),
        rows => Err(StoreError::Miscounted { table: R::TABLE, rows }),
    }
}
