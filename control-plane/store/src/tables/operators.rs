//! Operators and their sessions. Signed role grants state what an operator may do, not these rows.

use rap_authority::RowKeys;
use rap_types::{Digest, OperatorId, Wall};
use sqlx::{FromRow as _, PgConnection, Row as _};

use crate::authentic::{Authentic as _, Held, Stored, all_verified, held, insert, update, verified};
use crate::columns::read;
use crate::counted::{may_conflict, one_row};
use crate::query::{database_now, found, plain_row, statements};
use crate::row::{authentic_row, select};
use crate::statement::joined;
use crate::transaction::SystemTransaction;
use crate::{Result, StoreError};

/// An operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorRow {
    /// Id.
    pub operator: OperatorId,
    /// Name for audit and screens, unique.
    pub name: String,
    /// Ed25519 key that logs in, unique.
    pub public_key: [u8; 32],
    /// Platform role; says nothing without the signed document that grants it.
    pub platform_role: String,
    /// When the operator was shut out.
    pub disabled_at: Option<Wall>,
}

/// A session. Only the SHA-256 of the bearer secret is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// SHA-256 of the bearer secret.
    pub token_hash: Digest,
    /// Who logged in.
    pub operator: OperatorId,
    /// With which key.
    pub operator_public_key: [u8; 32],
    /// When it ends; at most 12 hours after now.
    pub expires_at: Wall,
}

/// A live session with its operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Who.
    pub operator: OperatorRow,
    /// When it ends.
    pub expires_at: Wall,
    /// False once `expires_at` passed by the database's clock.
    pub live: bool,
}

authentic_row! {
    OperatorRow { operator: operator_id, name, public_key, platform_role, disabled_at } in "operators";
    key operator_id;
    name: Changes, public_key: Fixed, platform_role: Changes, disabled_at: Changes;
}

plain_row!(NewSession { token_hash, operator: operator_id, operator_public_key, expires_at });

statements! {
    /// The operator with this key.
    pub async fn operator_by_key(keys, public_key: &[u8; 32]) -> Option<OperatorRow> = verified
        select!(OperatorRow, "WHERE public_key = $1");
    /// The operator with this key, locked.
    pub(crate) async fn operator_hold(keys, public_key: &[u8; 32]) -> Option<Held<OperatorRow>> = held
        select!(OperatorRow, "WHERE public_key = $1 FOR UPDATE");
    /// All operators, oldest first.
    pub async fn operators_list(keys) -> Vec<OperatorRow> = all_verified
        select!(OperatorRow, "ORDER BY operator_id LIMIT 1000");
    /// Starts a session.
    pub async fn session_insert(new: &NewSession) -> () = one_row "INSERT INTO operator_sessions \
        (token_hash, operator_id, operator_public_key, expires_at) VALUES ($1, $2, $3, $4)";
    SESSION_READ = joined!(
        "SELECT s.expires_at, s.expires_at > clock_timestamp() AS live, ", OperatorRow::NAMES,
        " FROM operator_sessions s JOIN operators o USING (operator_id) \
        WHERE s.token_hash = $1 AND s.operator_public_key = o.public_key AND o.disabled_at IS NULL"
    );
    async fn delete(token_hash: Digest) -> bool = may_conflict
        "DELETE FROM operator_sessions WHERE token_hash = $1";
    async fn is_there(token_hash: Digest) -> bool = found
        "SELECT 1 FROM operator_sessions WHERE token_hash = $1";
    /// Removes sessions that ended more than a day ago; returns how many.
    pub async fn sessions_expire() -> u64 = may_conflict
        "DELETE FROM operator_sessions WHERE expires_at < clock_timestamp() - interval '1 day'";
    /// Ends every session of a key.
    async fn sessions_end(operator_public_key: &[u8; 32]) -> () = may_conflict
        "DELETE FROM operator_sessions WHERE operator_public_key = $1";
}

/// Adds an operator who is not shut out. The name among those, and the key, are unique
/// ([`StoreError::Exists`]).
pub async fn operator_insert(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    new: &OperatorRow,
) -> Result<()> {
    insert(transaction, keys, &OperatorRow { disabled_at: None, ..new.clone() }).await
}

/// Adds an operator, or gives the one with this key another name and role and lets it in again.
pub async fn operator_put(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    new: &OperatorRow,
) -> Result<()> {
    let Some(mut row) = operator_hold(transaction, keys, &new.public_key).await? else {
        return operator_insert(transaction, keys, new).await;
    };
    let known = row.operator;
    *row = OperatorRow { operator: known, disabled_at: None, ..new.clone() };
    update(transaction, keys, row).await.map(drop)
}

/// Shuts the operator with this key out and ends the key's sessions.
pub async fn operator_shut_out(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    public_key: &[u8; 32],
) -> Result<()> {
    sessions_end(transaction, public_key).await?;
    let row = operator_hold(transaction, keys, public_key).await?;
    let Some(mut row) = row.filter(|row| row.disabled_at.is_none()) else { return Ok(()) };
    row.disabled_at = Some(database_now(transaction).await?);
    update(transaction, keys, row).await.map(drop)
}

/// Ends a session. False if there was none.
pub async fn session_delete(connection: &mut PgConnection, token_hash: Digest) -> Result<bool> {
    let deleted = delete(connection, token_hash).await?;
    if !deleted && is_there(connection, token_hash).await? {
        return Err(StoreError::Miscounted { table: "operator_sessions", rows: 0 });
    }
    Ok(deleted)
}

/// The session with this token hash, unless its operator was shut out or has another key by now. Look
/// at [`SessionRow::live`]: an expired one is still found for a day, so that it can be named as such.
pub async fn session_read(
    connection: &mut PgConnection,
    keys: &RowKeys,
    token_hash: Digest,
) -> Result<Option<SessionRow>> {
    let query = sqlx::query(SESSION_READ).bind(token_hash.as_bytes().as_slice());
    let Some(row) = query.fetch_optional(connection).await? else { return Ok(None) };
    let operator = Stored::<OperatorRow>::from_row(&row)?.verified(keys)?;
    Ok(Some(SessionRow { operator, expires_at: read(&row, "expires_at")?, live: row.try_get("live")? }))
}
