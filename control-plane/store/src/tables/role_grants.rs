//! Signed role grants and the chain of sets over them. Bytes are inserted once and never altered.

use rap_types::{Digest, PlatformRole};
use sqlx::PgConnection;

use crate::Result;
use crate::authentic::RowName;
use crate::columns::{bound, counter, plain_row, statements};
use crate::transaction::{Bytes, SystemTransaction};

/// A grant or revocation as stored. What its columns say counts only if the envelope says the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleGrantRow {
    /// Digest of the signed document.
    pub digest: Digest,
    /// Key it concerns.
    pub subject_key: [u8; 32],
    /// Role it concerns.
    pub platform_role: String,
    /// The signed bytes.
    pub envelope: Vec<u8>,
}

plain_row!(RoleGrantRow { digest: grant_digest, subject_key, platform_role, envelope });

statements! {
    ROLE_GRANT_INSERT = "INSERT INTO platform_role_grants (grant_digest, subject_key, platform_role, envelope) \
        VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    ROLE_GRANT_READ = "SELECT envelope FROM platform_role_grants WHERE grant_digest = $1";
    ROLE_GRANTS_LIST = "SELECT grant_digest, subject_key, platform_role, envelope FROM platform_role_grants \
        ORDER BY created_at, grant_digest LIMIT 16384";
    ROLE_GRANT_SET_INSERT = "INSERT INTO role_grant_sets (sequence, set_digest, envelope) VALUES ($1, $2, $3) \
        ON CONFLICT DO NOTHING";
    ROLE_GRANT_SET_READ = "SELECT envelope FROM role_grant_sets WHERE sequence = $1";
    ROLE_GRANT_SETS_FROM = "SELECT envelope FROM role_grant_sets WHERE sequence >= $1 ORDER BY sequence LIMIT 16384";
    ROLE_GRANT_SET_BELOW = "SELECT envelope FROM role_grant_sets WHERE sequence < $1 ORDER BY sequence DESC LIMIT 1";
    ROLE_GRANT_SET_NEWEST = "SELECT envelope FROM role_grant_sets ORDER BY sequence DESC LIMIT 1";
}

/// Keeps a signed grant or revocation. The same one again is no error.
pub async fn role_grant_insert(
    transaction: &mut SystemTransaction,
    digest: Digest,
    subject_key: &[u8; 32],
    platform_role: PlatformRole,
    envelope: &[u8],
) -> Result<()> {
    sqlx::query(ROLE_GRANT_INSERT)
        .bind(digest.as_bytes().as_slice())
        .bind(subject_key.as_slice())
        .bind(platform_role.as_str())
        .bind(envelope)
        .execute(&mut **transaction)
        .await?;
    transaction.expect(Bytes {
        statement: ROLE_GRANT_READ,
        key: bound!(digest.as_bytes().as_slice()),
        row: RowName { table: "platform_role_grants", key: digest.to_string() },
        value: Some(envelope.to_vec()),
    });
    Ok(())
}

/// Every stored grant and revocation. Each must be verified before it counts.
pub async fn role_grants_list(connection: &mut PgConnection) -> Result<Vec<RoleGrantRow>> {
    Ok(sqlx::query_as(ROLE_GRANTS_LIST).fetch_all(connection).await?)
}

/// Keeps a signed set. False if there is one of this sequence: of racing replicas exactly one stores.
pub async fn role_grant_set_insert(
    transaction: &mut SystemTransaction,
    sequence: u64,
    digest: Digest,
    envelope: &[u8],
) -> Result<bool> {
    let done = sqlx::query(ROLE_GRANT_SET_INSERT)
        .bind(counter("sequence", sequence)?)
        .bind(digest.as_bytes().as_slice())
        .bind(envelope)
        .execute(&mut **transaction)
        .await?;
    let stored = done.rows_affected() == 1;
    if stored {
        transaction.expect(Bytes {
            statement: ROLE_GRANT_SET_READ,
            key: bound!(counter("sequence", sequence)?),
            row: RowName { table: "role_grant_sets", key: sequence.to_string() },
            value: Some(envelope.to_vec()),
        });
    }
    Ok(stored)
}

/// Encoded sets from this sequence on, ascending; if there are none, the newest one below it.
pub async fn role_grant_sets_from(connection: &mut PgConnection, sequence: u64) -> Result<Vec<Vec<u8>>> {
    let sequence = counter("sequence", sequence)?;
    let sets: Vec<Vec<u8>> =
        sqlx::query_scalar(ROLE_GRANT_SETS_FROM).bind(sequence).fetch_all(&mut *connection).await?;
    if !sets.is_empty() {
        return Ok(sets);
    }
    Ok(sqlx::query_scalar(ROLE_GRANT_SET_BELOW).bind(sequence).fetch_all(connection).await?)
}

/// The encoded set of the highest sequence.
pub async fn role_grant_set_newest(connection: &mut PgConnection) -> Result<Option<Vec<u8>>> {
    Ok(sqlx::query_scalar(ROLE_GRANT_SET_NEWEST).fetch_optional(connection).await?)
}
