//! Join tokens: the row counts uses, the envelope says everything else. Both are under the row's MAC.

use rap_authority::{Columns, RowKeys};
use rap_types::{ApprovalMode, ClusterId, Digest, OrganizationId, Role, TokenId, Wall};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::authentic::{Authentic, Held, all_verified, held, sealing, sorted_out, verified, written};
use crate::columns::{
    counter, database_now, digest, id, id_option, statements, texts, timestamp, unsigned, wall, wall_option,
    word, words,
};
use crate::{RowName, StoreError};

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

impl Authentic for TokenRow {
    const TABLE: &'static str = "join_tokens";
    const KEY: &'static [&'static str] = &["token_id"];

    fn decode(row: &PgRow) -> sqlx::Result<Self> {
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

    fn key(&self) -> String {
        self.token.token.to_string()
    }

    fn columns(&self) -> Columns {
        covered(&self.token, self.uses, self.revoked_at)
    }
}

fn covered(token: &NewTokenRow, uses: u32, revoked_at: Option<Wall>) -> Columns {
    Columns::new()
        .bytes(token.cluster.as_bytes())
        .option(token.organization.as_ref().map(|id| id.as_bytes().as_slice()))
        .bytes(&token.envelope)
        .bytes(token.secret_hash.as_bytes())
        .text(token.approval.as_str())
        .words(texts(&token.roles))
        .words(&token.tags)
        .flag(token.ephemeral)
        .number(token.max_uses.into())
        .instant(Some(token.expires_at))
        .number(uses.into())
        .instant(revoked_at)
}

macro_rules! token_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " token_id, cluster_id, organization_id, envelope, secret_hash, approval, roles, tags, ephemeral, \
             max_uses, uses, expires_at, revoked_at, created_at, row_version, row_mac ",
            $after
        )
    };
}

statements! {
    TOKEN_INSERT = "INSERT INTO join_tokens (token_id, cluster_id, organization_id, envelope, secret_hash, \
        approval, roles, tags, ephemeral, max_uses, expires_at, row_mac) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    TOKEN_CLUSTER = "SELECT cluster_id FROM join_tokens WHERE token_id = $1";
    TOKEN_READ = token_columns!("SELECT", "FROM join_tokens WHERE token_id = $1 AND cluster_id = $2");
    TOKEN_LOCK = token_columns!(
        "SELECT",
        "FROM join_tokens WHERE token_id = $1 AND cluster_id = $2 FOR UPDATE"
    );
    TOKENS_LIST =
        token_columns!("SELECT", "FROM join_tokens WHERE cluster_id = $1 ORDER BY token_id DESC LIMIT 1000");
    TOKENS_LIVE = "SELECT token_id FROM join_tokens WHERE cluster_id = $1 AND revoked_at IS NULL AND expires_at > $2 \
        ORDER BY token_id";
    TOKENS_ALL = token_columns!("SELECT", "FROM join_tokens WHERE cluster_id = $1 ORDER BY token_id");
    TOKENS_AFTER = token_columns!(
        "SELECT",
        "FROM join_tokens WHERE cluster_id = $1 AND (token_id::text) COLLATE \"C\" > $2 \
         ORDER BY (token_id::text) COLLATE \"C\" LIMIT 500"
    );
    TOKEN_REQUESTS = "SELECT count(*) FROM join_requests WHERE token_id = $1";
    TOKEN_CONSUME = "UPDATE join_tokens SET uses = uses + 1, row_version = row_version + 1, row_mac = $3 \
        WHERE token_id = $1 AND row_version = $2 \
            AND uses < max_uses AND revoked_at IS NULL AND expires_at > clock_timestamp()";
    TOKEN_REVOKE = "UPDATE join_tokens SET revoked_at = $3, row_version = row_version + 1, row_mac = $4 \
        WHERE token_id = $1 AND row_version = $2";
}

/// Adds a token.
pub async fn token_insert(
    connection: &mut PgConnection,
    keys: &RowKeys,
    new: &NewTokenRow,
) -> Result<(), StoreError> {
    sealing(connection, keys).await?;
    let row_mac = keys.seal(TokenRow::TABLE, &new.token.to_string(), 1, &covered(new, 0, None));
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
        .bind(row_mac.as_slice())
        .execute(connection)
        .await?;
    Ok(())
}

/// The cluster a token's row names, not verified: it says whose keys verify the row.
pub async fn token_cluster(
    connection: &mut PgConnection,
    token: TokenId,
) -> Result<Option<ClusterId>, StoreError> {
    let id: Option<uuid::Uuid> =
        sqlx::query_scalar(TOKEN_CLUSTER).bind(token.uuid()).fetch_optional(connection).await?;
    Ok(id.map(ClusterId::from))
}

/// The token with this id in the cluster of these keys.
pub async fn token_read(
    connection: &mut PgConnection,
    keys: &RowKeys,
    token: TokenId,
) -> Result<Option<TokenRow>, StoreError> {
    let query = sqlx::query_as(TOKEN_READ).bind(token.uuid()).bind(keys.cluster().uuid());
    verified(query.fetch_optional(&mut *connection).await?, connection, keys).await
}

/// The token with this id, locked until the transaction ends.
pub async fn token_hold(
    connection: &mut PgConnection,
    keys: &RowKeys,
    token: TokenId,
) -> Result<Option<Held<TokenRow>>, StoreError> {
    let query = sqlx::query_as(TOKEN_LOCK).bind(token.uuid()).bind(keys.cluster().uuid());
    held(query.fetch_optional(&mut *connection).await?, connection, keys).await
}

/// Newest tokens of a cluster first, at most 1000.
pub async fn tokens_list(connection: &mut PgConnection, keys: &RowKeys) -> Result<Vec<TokenRow>, StoreError> {
    all_verified(
        sqlx::query_as(TOKENS_LIST).bind(keys.cluster().uuid()).fetch_all(&mut *connection).await?,
        connection,
        keys,
    )
    .await
}

/// The tokens of a cluster whose rows hold, and the names of the rows that do not: to be shown.
pub async fn tokens_and_tampered(
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<(Vec<TokenRow>, Vec<RowName>), StoreError> {
    let rows = sqlx::query_as(TOKENS_LIST).bind(keys.cluster().uuid()).fetch_all(&mut *connection).await?;
    sorted_out(rows, connection, keys).await
}

/// Ids of every token that could still be used at `now`; the rows are verified by who goes on to them.
pub async fn tokens_live(
    connection: &mut PgConnection,
    cluster: ClusterId,
    now: Wall,
) -> Result<Vec<TokenId>, StoreError> {
    let query = sqlx::query(TOKENS_LIVE).bind(cluster.uuid()).bind(timestamp("expires_at", now)?);
    let rows = query.fetch_all(connection).await?;
    Ok(rows.iter().map(|row| id(row, "token_id")).collect::<sqlx::Result<_>>()?)
}

/// Takes one use of a held token, if it has one left, is not revoked and not expired, all in one
/// statement. False takes nothing. [`crate::join_request_upsert`] is the caller.
///
/// Each use left a request behind, and a request cannot be removed by the serving role: a token with
/// more requests than uses was put back to an older row.
pub async fn token_consume(
    connection: &mut PgConnection,
    keys: &RowKeys,
    mut token: Held<TokenRow>,
) -> Result<bool, StoreError> {
    let id = token.token.token;
    let requests: i64 =
        sqlx::query_scalar(TOKEN_REQUESTS).bind(id.uuid()).fetch_one(&mut *connection).await?;
    if requests > i64::from(token.uses) {
        return Err(StoreError::Tampered { table: TokenRow::TABLE, key: id.to_string() });
    }
    token.uses = token.uses.saturating_add(1);
    let query = sqlx::query(TOKEN_CONSUME).bind(id.uuid()).bind(token.stored_version()?);
    let done = query.bind(token.next_mac(keys)).execute(connection).await?;
    Ok(done.rows_affected() == 1)
}

/// Revokes a token; the time of the first revocation stays. `None` if there is no such token. Once
/// this is committed, no new request appears.
pub async fn token_revoke(
    connection: &mut PgConnection,
    keys: &RowKeys,
    token: TokenId,
) -> Result<Option<TokenRow>, StoreError> {
    let Some(mut row) = token_hold(connection, keys, token).await? else { return Ok(None) };
    if row.revoked_at.is_some() {
        return Ok(Some(row.into_inner()));
    }
    let now = database_now(connection).await?;
    row.revoked_at = Some(now);
    let done = sqlx::query(TOKEN_REVOKE)
        .bind(token.uuid())
        .bind(row.stored_version()?)
        .bind(timestamp("revoked_at", now)?)
        .bind(row.next_mac(keys))
        .execute(connection)
        .await?;
    written(done.rows_affected())?;
    Ok(Some(row.into_inner()))
}
