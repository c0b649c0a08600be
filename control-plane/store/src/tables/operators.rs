//! Operators and their sessions. What an operator may do is in signed grants, not here.

use rap_types::{Digest, OperatorId, Wall};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};

use crate::StoreError;
use crate::columns::{bytes32, id, statements, timestamp, wall, wall_option};

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

impl FromRow<'_, PgRow> for OperatorRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            operator: id(row, "operator_id")?,
            name: row.try_get("name")?,
            public_key: bytes32(row, "public_key")?,
            platform_role: row.try_get("platform_role")?,
            disabled_at: wall_option(row, "disabled_at")?,
        })
    }
}

impl FromRow<'_, PgRow> for SessionRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            operator: OperatorRow::from_row(row)?,
            expires_at: wall(row, "expires_at")?,
            live: row.try_get("live")?,
        })
    }
}

statements! {
    OPERATOR_INSERT = "INSERT INTO operators (operator_id, name, public_key, platform_role) \
        VALUES ($1, $2, $3, $4)";
    OPERATOR_BY_KEY = "SELECT operator_id, name, public_key, platform_role, disabled_at FROM operators \
        WHERE public_key = $1";
    OPERATORS_LIST = "SELECT operator_id, name, public_key, platform_role, disabled_at FROM operators \
        ORDER BY operator_id LIMIT 1000";
    SESSION_INSERT = "INSERT INTO operator_sessions \
        (token_hash, operator_id, operator_public_key, expires_at) VALUES ($1, $2, $3, $4)";
    SESSION_READ = "SELECT o.operator_id, o.name, o.public_key, o.platform_role, o.disabled_at, \
            s.expires_at, s.expires_at > clock_timestamp() AS live \
        FROM operator_sessions s JOIN operators o USING (operator_id) \
        WHERE s.token_hash = $1 AND s.operator_public_key = o.public_key AND o.disabled_at IS NULL";
    SESSION_DELETE = "DELETE FROM operator_sessions WHERE token_hash = $1";
    SESSIONS_EXPIRE = "DELETE FROM operator_sessions WHERE expires_at < clock_timestamp() - interval '1 day'";
    OPERATOR_PUT = "INSERT INTO operators (operator_id, name, public_key, platform_role) \
        VALUES ($1, $2, $3, $4) ON CONFLICT (public_key) DO UPDATE SET name = excluded.name, \
        platform_role = excluded.platform_role, disabled_at = NULL, row_version = operators.row_version + 1";
    OPERATOR_SHUT_OUT = "UPDATE operators SET disabled_at = clock_timestamp(), row_version = row_version + 1 \
        WHERE public_key = $1 AND disabled_at IS NULL";
    SESSIONS_END = "DELETE FROM operator_sessions WHERE operator_public_key = $1";
}

/// Adds an operator. The name among those who are not shut out, and the key, are unique ([`StoreError::Exists`]).
pub async fn operator_insert(connection: &mut PgConnection, new: &OperatorRow) -> Result<(), StoreError> {
    sqlx::query(OPERATOR_INSERT)
        .bind(new.operator.uuid())
        .bind(&new.name)
        .bind(new.public_key.as_slice())
        .bind(&new.platform_role)
        .execute(connection)
        .await?;
    Ok(())
}

/// Adds an operator, or gives the one with this key another name and role and lets it in again.
pub async fn operator_put(connection: &mut PgConnection, new: &OperatorRow) -> Result<(), StoreError> {
    sqlx::query(OPERATOR_PUT)
        .bind(new.operator.uuid())
        .bind(&new.name)
        .bind(new.public_key.as_slice())
        .bind(&new.platform_role)
        .execute(connection)
        .await?;
    Ok(())
}

/// Shuts the operator with this key out and ends the key's sessions.
pub async fn operator_shut_out(
    connection: &mut PgConnection,
    public_key: &[u8; 32],
) -> Result<(), StoreError> {
    sqlx::query(OPERATOR_SHUT_OUT).bind(public_key.as_slice()).execute(&mut *connection).await?;
    sqlx::query(SESSIONS_END).bind(public_key.as_slice()).execute(connection).await?;
    Ok(())
}

/// The operator with this key.
pub async fn operator_by_key(
    connection: &mut PgConnection,
    public_key: &[u8; 32],
) -> Result<Option<OperatorRow>, StoreError> {
    Ok(sqlx::query_as(OPERATOR_BY_KEY).bind(public_key.as_slice()).fetch_optional(connection).await?)
}

/// All operators, oldest first.
pub async fn operators_list(connection: &mut PgConnection) -> Result<Vec<OperatorRow>, StoreError> {
    Ok(sqlx::query_as(OPERATORS_LIST).fetch_all(connection).await?)
}

/// Starts a session.
pub async fn session_insert(connection: &mut PgConnection, new: &NewSession) -> Result<(), StoreError> {
    sqlx::query(SESSION_INSERT)
        .bind(new.token_hash.as_bytes().as_slice())
        .bind(new.operator.uuid())
        .bind(new.operator_public_key.as_slice())
        .bind(timestamp("expires_at", new.expires_at)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// The session with this token hash, unless its operator was shut out or has another key by now. Look
/// at [`SessionRow::live`]: an expired one is still found for a day, so that it can be named as such.
pub async fn session_read(
    connection: &mut PgConnection,
    token_hash: Digest,
) -> Result<Option<SessionRow>, StoreError> {
    let row = sqlx::query_as(SESSION_READ).bind(token_hash.as_bytes().as_slice()).fetch_optional(connection);
    Ok(row.await?)
}

/// Ends a session. False if there was none.
pub async fn session_delete(connection: &mut PgConnection, token_hash: Digest) -> Result<bool, StoreError> {
    let done = sqlx::query(SESSION_DELETE).bind(token_hash.as_bytes().as_slice()).execute(connection).await?;
    Ok(done.rows_affected() == 1)
}

/// Removes sessions that ended more than a day ago; returns how many.
pub async fn sessions_expire(connection: &mut PgConnection) -> Result<u64, StoreError> {
    Ok(sqlx::query(SESSIONS_EXPIRE).execute(connection).await?.rows_affected())
}
