//! Requests to join: made with a token use in one transaction, decided once.

use rap_authority::RowKeys;
use rap_types::{ClusterId, JoinRequestId, JoinState, NodeId, OrganizationId, TokenId, Wall};
use sqlx::PgConnection;

use super::tokens::{TokenRow, token_consume, token_hold};
use crate::authentic::{
    Authentic as _, Held, Stored, Written, all_verified, held, new_row, sealing, sorted_out, verified,
};
use crate::counted::one_row_returned;
use crate::query::{done, statements};
use crate::row::{authentic_row, select};
use crate::row_name::RowName;
use crate::statement::joined;
use crate::transaction::SystemTransaction;
use crate::{Result, StoreError};

/// What a host asks for. Its proof of possession was checked before.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJoinRequestRow {
    /// Id, used only if this node key has no request under this token yet.
    pub request: JoinRequestId,
    /// Cluster of the token.
    pub cluster: ClusterId,
    /// Organization of the token.
    pub organization: Option<OrganizationId>,
    /// Token it came with.
    pub token: TokenId,
    /// Identity key.
    pub node_public_key: [u8; 32],
    /// WireGuard key.
    pub wireguard_public_key: [u8; 32],
    /// Nonce of the proof, which the contract repeats.
    pub nonce: [u8; 32],
    /// Wished node name, as sent.
    pub name: String,
    /// What the host says of itself: `{"capabilities": [..], "agent_version": .., "region": ..}`.
    pub facts: serde_json::Value,
    /// Where it can be reached: `{"link": [..], "wireguard": [..]}`.
    pub advertise: serde_json::Value,
    /// Address the request came from.
    pub source: String,
}

/// A request as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinRequestRow {
    /// What was asked.
    pub request: NewJoinRequestRow,
    /// Where it is.
    pub state: JoinState,
    /// Node it became.
    pub node: Option<NodeId>,
    /// Why it was denied.
    pub reason: Option<String>,
    /// Encoded bootstrap contract, once approved.
    pub contract: Option<Vec<u8>>,
    /// When it was first made.
    pub requested_at: Wall,
    /// When it was decided.
    pub decided_at: Option<Wall>,
}

/// What became of [`join_request_upsert`].
#[derive(Debug, Clone)]
pub enum JoinOutcome {
    /// One use was taken and the request made.
    Created(JoinRequestRow),
    /// This node key asked before with this token, or with another one and that request waits: the same request, no
    /// use taken. While it is pending, its nonce, WireGuard key, wish and facts are now those of this call.
    Again(JoinRequestRow),
    /// The token has no use left, is revoked or expired; its row says which.
    Refused(TokenRow),
    /// There is no such token.
    Unknown,
}

authentic_row! {
    JoinRequestRow {
        request: NewJoinRequestRow {
            request: request_id, cluster: cluster_id, organization: organization_id, token: token_id,
            node_public_key, wireguard_public_key, nonce, name, facts, advertise, source,
        },
        state, node: node_id, reason, contract, requested_at, decided_at,
    }
    in "join_requests";
    key request_id;
    cluster_id: Fixed, organization_id: Fixed, token_id: Fixed, node_public_key: Fixed,
    wireguard_public_key: Changes, nonce: Changes, name: Changes, facts: Changes, advertise: Changes,
    source: Changes, state: Changes, node_id: Changes, reason: Changes, contract: Changes,
    requested_at: Shown, decided_at: Shown;
    sets "decided_at = CASE WHEN $9 = 'pending' THEN NULL ELSE coalesce(decided_at, clock_timestamp()) END";
}

statements! {
    async fn row_insert(arguments) -> Stored<JoinRequestRow> = one_row_returned
        joined!(JoinRequestRow::INSERT, " RETURNING ", JoinRequestRow::NAMES);
    JOIN_REQUEST_BY_KEY = select!(
        JoinRequestRow,
        "WHERE cluster_id = $3 AND node_public_key = $2 AND (token_id = $1 OR state = 'pending') \
         ORDER BY token_id = $1 DESC, request_id LIMIT 1 FOR UPDATE"
    );
    /// Waits for whoever else makes a request with this key.
    async fn join_key_lock(node_public_key: &[u8]) -> () = done
        "SELECT pg_advisory_xact_lock(hashtextextended(encode($1, 'hex'), 0))";
    /// The request with this id in the cluster of these keys.
    pub async fn join_request_read(keys, request: JoinRequestId) -> Option<JoinRequestRow> = verified
        select!(JoinRequestRow, "WHERE cluster_id = $1 AND request_id = $2");
    /// The request with this id, locked until the transaction ends: read it so before deciding.
    pub async fn join_request_hold(keys, request: JoinRequestId) -> Option<Held<JoinRequestRow>> = held
        select!(JoinRequestRow, "WHERE cluster_id = $1 AND request_id = $2 FOR UPDATE");
    /// Pending requests whose rows verify, oldest first, and the names of the rows that do not verify. At most
    /// 10,000 rows. For display only.
    pub async fn join_requests_and_tampered(keys) -> (Vec<JoinRequestRow>, Vec<RowName>) = sorted_out select!(
        JoinRequestRow,
        "WHERE cluster_id = $1 AND state = 'pending' ORDER BY request_id LIMIT 10000"
    );
    /// The rows of the requests that were made with a token.
    async fn rows_of_token(keys, token: TokenId) -> Vec<JoinRequestRow> = all_verified
        select!(JoinRequestRow, "WHERE cluster_id = $1 AND token_id = $2 ORDER BY request_id");
    /// Of a request that is pending.
    async fn row_update(arguments) -> Stored<JoinRequestRow> = one_row_returned
        joined!(JoinRequestRow::UPDATE, " AND state = 'pending' RETURNING ", JoinRequestRow::NAMES);
}

/// Makes the request and takes one use of its token, or finds the request this node key made before.
/// Must run in a transaction: on [`JoinOutcome::Refused`] nothing was written.
pub async fn join_request_upsert(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    new: &NewJoinRequestRow,
) -> Result<JoinOutcome> {
    // The token's lock puts racing requests in a row, so that two calls with one node key cannot
    // both miss the other's request and take two uses.
    let Some(token) = token_hold(transaction, keys, new.token).await? else {
        return Ok(JoinOutcome::Unknown);
    };
    join_key_lock(transaction, &new.node_public_key).await?;
    if let Some(row) = again(transaction, keys, new).await? {
        return Ok(JoinOutcome::Again(row));
    }
    let presented = token.clone();
    if !token_consume(transaction, keys, token).await? {
        return Ok(JoinOutcome::Refused(presented));
    }
    sealing(transaction, keys).await?;
    let new = JoinRequestRow {
        request: new.clone(),
        state: JoinState::Pending,
        node: None,
        reason: None,
        contract: None,
        requested_at: Wall(0),
        decided_at: None,
    };
    let row = row_insert(transaction, new_row(&new, keys)?).await?;
    transaction.expect(Written::of(&new, 1, keys)?);
    Ok(JoinOutcome::Created(row.verified(keys)?))
}

/// The request this node key made before with this token, or one that waits with another; while it is pending it follows
/// this call.
async fn again(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    new: &NewJoinRequestRow,
) -> Result<Option<JoinRequestRow>> {
    let query = sqlx::query_as(JOIN_REQUEST_BY_KEY)
        .bind(new.token.uuid())
        .bind(new.node_public_key.as_slice())
        .bind(new.cluster.uuid());
    let Some(mut row) = held::<JoinRequestRow>(query, transaction, keys).await? else { return Ok(None) };
    if row.state != JoinState::Pending {
        return Ok(Some(row.into_inner()));
    }
    let known = &row.request;
    row.request = NewJoinRequestRow {
        request: known.request,
        cluster: known.cluster,
        organization: known.organization,
        token: known.token,
        ..new.clone()
    };
    write(transaction, keys, row).await.map(Some)
}

/// Writes a request that is pending in the database.
async fn write(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    row: Held<JoinRequestRow>,
) -> Result<JoinRequestRow> {
    let stored = row_update(transaction, row.update(keys)?).await?;
    transaction.expect(row.written(keys)?);
    stored.verified(keys)
}

/// Every request that was made with a token, whatever became of it.
///
/// # Errors
/// [`StoreError::Tampered`] for a row that does not hold, and if there are not as many as the token was used.
pub async fn join_requests_of_token(
    connection: &mut PgConnection,
    keys: &RowKeys,
    token: &TokenRow,
) -> Result<Vec<JoinRequestRow>> {
    let id = token.token.token;
    let rows = rows_of_token(connection, keys, id).await?;
    let asked = rows.iter().filter(|row| row.request.token == id).count();
    // Each use made one request, and requests are never removed.
    if asked != rows.len() || asked as u64 != u64::from(token.uses) {
        return Err(StoreError::Tampered { table: JoinRequestRow::TABLE, key: format!("of token {id}") });
    }
    Ok(rows)
}

/// Approves a pending request; the node's row must exist. `None` if it was decided before.
pub async fn join_request_approve(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    request: JoinRequestId,
    node: NodeId,
    contract: &[u8],
) -> Result<Option<JoinRequestRow>> {
    let Some(mut row) = pending(transaction, keys, request).await? else { return Ok(None) };
    (row.state, row.node, row.contract) = (JoinState::Approved, Some(node), Some(contract.to_vec()));
    write(transaction, keys, row).await.map(Some)
}

/// Denies a pending request. `None` if it was decided before.
pub async fn join_request_deny(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    request: JoinRequestId,
    reason: &str,
) -> Result<Option<JoinRequestRow>> {
    let Some(mut row) = pending(transaction, keys, request).await? else { return Ok(None) };
    (row.state, row.reason) = (JoinState::Denied, Some(reason.to_owned()));
    write(transaction, keys, row).await.map(Some)
}

async fn pending(
    connection: &mut PgConnection,
    keys: &RowKeys,
    request: JoinRequestId,
) -> Result<Option<Held<JoinRequestRow>>> {
    let row = join_request_hold(connection, keys, request).await?;
    Ok(row.filter(|row| row.state == JoinState::Pending))
}
