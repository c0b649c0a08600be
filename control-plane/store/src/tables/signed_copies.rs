//! Copies of signed documents: which of them the database lost, and how they are put back.

use rap_types::{ClusterId, Digest};
use sqlx::PgConnection;

use super::revocations::revocation_insert;
use super::role_grants::{RoleGrantRow, role_grant_insert, role_grant_set_insert};
use crate::query::{found, statements};
use crate::signed_copy::SignedCopy;
use crate::transaction::SystemTransaction;
use crate::{Result, StoreError};

statements! {
    async fn set_there(sequence: u64) -> bool = found "SELECT 1 FROM role_grant_sets WHERE sequence = $1";
    async fn grant_there(digest: Digest) -> bool = found
        "SELECT 1 FROM platform_role_grants WHERE grant_digest = $1";
    async fn revocation_there(cluster: ClusterId, sequence: u64) -> bool = found
        "SELECT 1 FROM node_revocations WHERE cluster_id = $1 AND sequence = $2";
}

impl RoleGrantRow {
    /// As a copy that is kept outside of the database.
    pub fn into_copy(self) -> SignedCopy {
        let Self { digest, subject_key, platform_role, envelope } = self;
        SignedCopy::RoleGrant { digest, subject_key: subject_key.to_vec(), platform_role, envelope }
    }

    /// The row of a copy, if it is one of a grant.
    pub fn of_copy(copy: &SignedCopy) -> Option<Self> {
        let SignedCopy::RoleGrant { digest, subject_key, platform_role, envelope } = copy else {
            return None;
        };
        let subject_key = subject_key.as_slice().try_into().ok()?;
        let (platform_role, envelope) = (platform_role.clone(), envelope.clone());
        Some(Self { digest: *digest, subject_key, platform_role, envelope })
    }
}

/// Whether the database has a row of this place.
pub async fn signed_copy_is_stored(connection: &mut PgConnection, copy: &SignedCopy) -> Result<bool> {
    match copy {
        SignedCopy::RoleGrantSet { sequence, .. } => set_there(connection, *sequence).await,
        SignedCopy::RoleGrant { digest, .. } => grant_there(connection, *digest).await,
        SignedCopy::Revocation { cluster, sequence, .. } => {
            revocation_there(connection, *cluster, *sequence).await
        }
    }
}

/// Puts a copy back where its row is missing.
///
/// # Errors
/// [`StoreError::Unstorable`] for a grant whose words are none; those of the insert.
pub async fn signed_copy_put(transaction: &mut SystemTransaction, copy: &SignedCopy) -> Result<()> {
    match copy {
        SignedCopy::RoleGrantSet { sequence, digest, envelope } => {
            role_grant_set_insert(transaction, *sequence, *digest, envelope).await.map(drop)
        }
        SignedCopy::RoleGrant { digest, platform_role, envelope, .. } => {
            let unstorable = || StoreError::Unstorable("a role grant".to_owned());
            let subject = RoleGrantRow::of_copy(copy).ok_or_else(unstorable)?.subject_key;
            let role = platform_role.parse().map_err(|_| unstorable())?;
            role_grant_insert(transaction, *digest, &subject, role, envelope).await
        }
        SignedCopy::Revocation { cluster, sequence, record } => {
            revocation_insert(transaction, *cluster, *sequence, record).await
        }
    }
}
