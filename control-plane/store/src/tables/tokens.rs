//! Join tokens: the row counts the uses, the envelope has all other values. The row's MAC covers both.

use rap_authority::RowKeys;
use rap_types::{ApprovalMode, ClusterId, Digest, OrganizationId, Role, TokenId, Wall};

use crate::authentic::{Authentic as _, Held, held, insert, sorted_out, update, verified};
use crate::counted::may_conflict;
use crate::query::{all, database_now, one, optional, statements};
use crate::row::{authentic_row, select};
use crate::row_name::RowName;
use crate::statement::joined;
use crate::transaction::SystemTransaction;
use crate::{Result, StoreError};

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

impl TokenRow {
    /// The row as the authority compares it with what was signed.
    pub fn terms(&self) -> rap_authority::TokenRow<'_> {
        rap_authority::TokenRow {
            envelope: &self.token.envelope,
            max_uses: self.token.max_uses,
            expires_at: self.token.expires_at,
            uses: self.uses,
            revoked_at: self.revoked_at,
        }
    }
}

authentic_row! {
    TokenRow {
        token: NewTokenRow {
            token: token_id, cluster: cluster_id, organization: organization_id, envelope, secret_hash,
            approval, roles, tags, ephemeral, max_uses, expires_at,
        },
        uses, revoked_at, created_at,
    }
    in "join_tokens";
    key token_id;
    cluster_id: Fixed, organization_id: Fixed, envelope: Fixed, secret_hash: Fixed, approval: Fixed,
    roles: Fixed, tags: Fixed, ephemeral: Fixed, max_uses: Fixed, expires_at: Fixed, uses: Changes,
    revoked_at: Changes, created_at: Shown;
}

statements! {
    /// The cluster a token's row names, not verified: it says whose keys verify the row.
    pub async fn token_cluster(token: TokenId) -> Option<ClusterId> = optional
        "SELECT cluster_id FROM join_tokens WHERE token_id = $1";
    /// The token with this id in the cluster of these keys.
    pub async fn token_read(keys, token: TokenId) -> Option<TokenRow> = verified
        select!(TokenRow, "WHERE cluster_id = $1 AND token_id = $2");
    /// The token with this id, locked until the transaction ends.
    pub(crate) async fn token_hold(keys, token: TokenId) -> Option<Held<TokenRow>> = held
        select!(TokenRow, "WHERE cluster_id = $1 AND token_id = $2 FOR UPDATE");
    /// The newest tokens of a cluster whose rows verify, newest first, and the names of the rows that do not verify.
    /// At most 1000 rows. For display only.
    pub async fn tokens_and_tampered(keys) -> (Vec<TokenRow>, Vec<RowName>) = sorted_out
        select!(TokenRow, "WHERE cluster_id = $1 ORDER BY token_id DESC LIMIT 1000");
    /// Ids of every token that could still be used at `now`; the rows are verified by who goes on to them.
    pub async fn tokens_live(cluster: ClusterId, now: Wall) -> Vec<TokenId> = all
        "SELECT token_id FROM join_tokens WHERE cluster_id = $1 AND revoked_at IS NULL AND expires_at > $2 \
        ORDER BY token_id";
    /// How many requests were made with a token.
    async fn requests_count(token: TokenId) -> u64 = one "SELECT count(*) FROM join_requests WHERE token_id = $1";
    async fn consumed(arguments) -> bool = may_conflict joined!(
        TokenRow::UPDATE,
        " AND uses < max_uses AND revoked_at IS NULL AND expires_at > clock_timestamp()"
    );
}

/// Adds a token.
pub async fn token_insert(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    new: &NewTokenRow,
) -> Result<()> {
    let row = TokenRow { token: new.clone(), uses: 0, revoked_at: None, created_at: Wall(0) };
    insert(transaction, keys, &row).await
}

/// Takes one use of a held token, if it has one left, is not revoked and not expired, all in one
/// statement. False takes nothing. [`crate::join_request_upsert`] is the caller.
///
/// Each use left a request behind, and a request cannot be removed by the serving role: a token with
/// more requests than uses was put back to an older row.
pub(crate) async fn token_consume(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    mut token: Held<TokenRow>,
) -> Result<bool> {
    let id = token.token.token;
    if requests_count(transaction, id).await? > u64::from(token.uses) {
        return Err(StoreError::Tampered { table: TokenRow::TABLE, key: id.to_string() });
    }
    let usable = token.uses < token.token.max_uses && token.revoked_at.is_none();
    token.uses = token.uses.saturating_add(1);
    let taken = consumed(transaction, token.update(keys)?).await?;
    if taken {
        transaction.expect(token.written(keys)?);
    } else if usable && database_now(transaction).await? < token.token.expires_at {
        return Err(StoreError::Miscounted { table: TokenRow::TABLE, rows: 0 });
    }
    Ok(taken)
}

/// Revokes a token; the time of the first revocation stays. `None` if there is no such token. Once
/// this is committed, no new request appears.
pub async fn token_revoke(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    token: TokenId,
) -> Result<Option<TokenRow>> {
    let Some(mut row) = token_hold(transaction, keys, token).await? else { return Ok(None) };
    if row.revoked_at.is_some() {
        return Ok(Some(row.into_inner()));
    }
    row.revoked_at = Some(database_now(transaction).await?);
    update(transaction, keys, row).await.map(Some)
}
