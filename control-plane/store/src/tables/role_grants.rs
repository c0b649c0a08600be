//! Signed role grants and the chain of sets over them. Bytes are inserted once and never altered.

use rap_types::{Digest, PlatformRole};
use sqlx::PgConnection;

use crate::columns::{bound, counter};
use crate::counted::may_conflict;
use crate::query::{all, optional, plain_row, statements};
use crate::row_name::RowName;
use crate::signed_copy::SignedCopy;
use crate::transaction::{Bytes, SystemTransaction};
use crate::{Result, StoreError};

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
    /// Keeps a signed grant or revocation.
    async fn grant_insert(
        digest: Digest, subject_key: &[u8; 32], platform_role: PlatformRole, envelope: &[u8]
    ) -> bool = may_conflict
        "INSERT INTO platform_role_grants (grant_digest, subject_key, platform_role, envelope) \
        VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    ROLE_GRANT_READ = "SELECT envelope FROM platform_role_grants WHERE grant_digest = $1";
    async fn grant_read(digest: Digest) -> Option<Vec<u8>> = optional ROLE_GRANT_READ;
    /// Every stored grant and revocation. Each must be verified before it counts.
    pub async fn role_grants_list() -> Vec<RoleGrantRow> = all
        "SELECT grant_digest, subject_key, platform_role, envelope FROM platform_role_grants \
        ORDER BY created_at, grant_digest LIMIT 16384";
    /// Keeps a signed set. False if there is one of this sequence.
    async fn set_insert(sequence: u64, digest: Digest, envelope: &[u8]) -> bool = may_conflict
        "INSERT INTO role_grant_sets (sequence, set_digest, envelope) VALUES ($1, $2, $3) \
        ON CONFLICT DO NOTHING";
    ROLE_GRANT_SET_READ = "SELECT envelope FROM role_grant_sets WHERE sequence = $1";
    async fn set_read(sequence: u64) -> Option<Vec<u8>> = optional ROLE_GRANT_SET_READ;
    async fn sets_from(sequence: u64) -> Vec<Vec<u8>> = all
        "SELECT envelope FROM role_grant_sets WHERE sequence >= $1 ORDER BY sequence LIMIT 16384";
    async fn newest_below(sequence: u64) -> Vec<Vec<u8>> = all
        "SELECT envelope FROM role_grant_sets WHERE sequence < $1 ORDER BY sequence DESC LIMIT 1";
    /// The encoded set of the highest sequence.
    pub async fn role_grant_set_newest() -> Option<Vec<u8>> = optional
        "SELECT envelope FROM role_grant_sets ORDER BY sequence DESC LIMIT 1";
}

/// Keeps a signed grant or revocation. The same one again is no error.
pub async fn role_grant_insert(
    transaction: &mut SystemTransaction,
    digest: Digest,
    subject_key: &[u8; 32],
    platform_role: PlatformRole,
    envelope: &[u8],
) -> Result<()> {
    let stored = grant_insert(transaction, digest, subject_key, platform_role, envelope).await?;
    if !stored && grant_read(transaction, digest).await?.is_none() {
        return Err(StoreError::Miscounted { table: "platform_role_grants", rows: 0 });
    }
    transaction.effects.copies.push(SignedCopy::RoleGrant {
        digest,
        subject_key: subject_key.to_vec(),
        platform_role: platform_role.to_string(),
        envelope: envelope.to_vec(),
    });
    transaction.expect(Bytes {
        statement: ROLE_GRANT_READ,
        key: bound!(digest.as_bytes().as_slice()),
        row: RowName { table: "platform_role_grants", key: digest.to_string() },
        value: Some(envelope.to_vec()),
    });
    Ok(())
}

/// Keeps a signed set. False if there is one of this sequence: of racing replicas exactly one stores.
pub async fn role_grant_set_insert(
    transaction: &mut SystemTransaction,
    sequence: u64,
    digest: Digest,
    envelope: &[u8],
) -> Result<bool> {
    let stored = set_insert(transaction, sequence, digest, envelope).await?;
    if !stored && set_read(transaction, sequence).await?.is_none() {
        return Err(StoreError::Miscounted { table: "role_grant_sets", rows: 0 });
    }
    if stored {
        let copy = SignedCopy::RoleGrantSet { sequence, digest, envelope: envelope.to_vec() };
        transaction.effects.copies.push(copy);
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
    let sets = sets_from(connection, sequence).await?;
    if sets.is_empty() { newest_below(connection, sequence).await } else { Ok(sets) }
}
