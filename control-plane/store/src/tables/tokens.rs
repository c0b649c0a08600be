//! Join tokens: the row counts uses, the envelope says everything else.

use rap_types::{ApprovalMode, ClusterId, Digest, OrganizationId, Role, TokenId, Wall};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};

use crate::StoreError;
use crate::columns::{
    counter, digest, id, id_option, statements, texts, timestamp, unsigned, wall, wall_option, word, words,
};

/// What creating a token writes. The secret itself is never stored.
#[derive(Debug, Clone)]
pub struct NewTokenRow {
    /// Token.
    pub token: TokenId,
    /// Cluster.
    pub cluster: ClusterId,
    /// Organization its nodes belong to; `None` for the platform's own.
    pub organization: Option<OrganizationId>,
    /// Encoded envelope; its values win over the columns.
    pub envelope: Vec<u8>,
    /// Hash of the secret.
    pub secret_hash: Digest,
    /// Who decides on requests.
    pub approval: ApprovalMode,
    /// Roles its nodes get.
    pub roles: Vec<Role>,
    /// Tags its nodes get.
    pub tags: Vec<String>,
    /// Its nodes vanish after absence.
    pub ephemeral: bool,
    /// How many hosts may use it.
    pub max_uses: u32,
    /// When it ends.
    pub expires_at: Wall,
}

/// A token as stored.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// As created.
    pub token: NewTokenRow,
    /// Uses so far.
    pub uses: u32,
    /// When it was revoked.
    pub revoked_at: Option<Wall>,
    /// When it was created.
    pub created_at: Wall,
}

impl FromRow<'_, PgRow> for TokenRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            token: NewTokenRow {
                token: id(row, "token_id")?,
                cluster: id(row, "cluster_id")?,
                organization: id_option(row, "organization_id")?,
                envelope: row.try_get("envelope")?,
                secret_hash: digest(row, "secret_hash")?,
                approval: word(row, "approval")?,
                roles: words(row, "roles")?,
                tags: row.try_get("tags")?,
                ephemeral: row.try_get("ephemeral")?,
                max_uses: unsigned(row, "max_uses")?,
                expires_at: wall(row, "expires_at")?,
            },
            uses: unsigned(row, "uses")?,
            revoked_at: wall_option(row, "revoked_at")?,
            created_at: wall(row, "created_at")?,
        })
    }
}

macro_rules! token_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " token_id, cluster_id, organization_id, envelope, secret_hash, approval, roles, tags, ephemeral, \
             max_uses, uses, expires_at, revoked_at, created_at ",
            $after
        )
    };
}

statements! {
    TOKEN_INSERT = "INSERT INTO join_tokens (token_id, cluster_id, organization_id, envelope, secret_hash, \
        approval, roles, tags, ephemeral, max_uses, expires_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    TOKEN_READ = token_columns!("SELECT", "FROM join_tokens WHERE token_id = $1");
    TOKEN_LOCK = token_columns!("SELECT", "FROM join_tokens WHERE token_id = $1 FOR UPDATE");
    TOKENS_LIST =
        token_columns!("SELECT", "FROM join_tokens WHERE cluster_id = $1 ORDER BY token_id DESC LIMIT 1000");
    TOKEN_CONSUME = "UPDATE join_tokens SET uses = uses + 1, row_version = row_version + 1 \
        WHERE token_id = $1 AND uses < max_uses AND revoked_at IS NULL AND expires_at > clock_timestamp()";
    TOKEN_REVOKE = token_columns!(
        "UPDATE join_tokens SET revoked_at = coalesce(revoked_at, clock_timestamp()), \
            row_version = row_version + 1 WHERE token_id = $1 RETURNING",
        ""
    );
}

/// Adds a token.
pub async fn token_insert(connection: &mut PgConnection, new: &NewTokenRow) -> Result<(), StoreError> {
    sqlx::query(TOKEN_INSERT)
        .bind(new.token.uuid())
        .bind(new.cluster.uuid())
        .bind(new.organization.map(|id| id.uuid()))
        .bind(&new.envelope)
        .bind(new.secret_hash.as_bytes().as_slice())
        .bind(new.approval.as_str())
        .bind(texts(&new.roles))
        .bind(&new.tags)
        .bind(new.ephemeral)
        .bind(counter("max_uses", new.max_uses.into())?)
        .bind(timestamp("expires_at", new.expires_at)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// The token with this id.
pub async fn token_read(
    connection: &mut PgConnection,
    token: TokenId,
) -> Result<Option<TokenRow>, StoreError> {
    Ok(sqlx::query_as(TOKEN_READ).bind(token.uuid()).fetch_optional(connection).await?)
}

/// The token with this id, locked until the transaction ends.
pub async fn token_lock(
    connection: &mut PgConnection,
    token: TokenId,
) -> Result<Option<TokenRow>, StoreError> {
    Ok(sqlx::query_as(TOKEN_LOCK).bind(token.uuid()).fetch_optional(connection).await?)
}

/// Newest tokens of a cluster first, at most 1000.
pub async fn tokens_list(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<Vec<TokenRow>, StoreError> {
    Ok(sqlx::query_as(TOKENS_LIST).bind(cluster.uuid()).fetch_all(connection).await?)
}

/// Takes one use, if the token has one left, is not revoked and not expired, all in one statement.
/// False takes nothing. [`crate::join_request_upsert`] is the caller.
pub async fn token_consume(connection: &mut PgConnection, token: TokenId) -> Result<bool, StoreError> {
    let done = sqlx::query(TOKEN_CONSUME).bind(token.uuid()).execute(connection).await?;
    Ok(done.rows_affected() == 1)
}

/// Revokes a token; the time of the first revocation stays. `None` if there is no such token. Once
/// this is committed, no new request appears.
pub async fn token_revoke(
    connection: &mut PgConnection,
    token: TokenId,
) -> Result<Option<TokenRow>, StoreError> {
    Ok(sqlx::query_as(TOKEN_REVOKE).bind(token.uuid()).fetch_optional(connection).await?)
}
