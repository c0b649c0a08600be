//! Requests to join: made with a token use in one transaction, decided once.

use rap_types::{ClusterId, JoinRequestId, JoinState, NodeId, OrganizationId, TokenId, Wall};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};

use super::tokens::{TokenRow, token_consume, token_lock};
use crate::StoreError;
use crate::columns::{bytes32, id, id_option, statements, wall, wall_option, word};

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
    /// This node key asked before with this token: the same request, no use taken. While it is
    /// pending, its nonce, WireGuard key, wish and facts are now those of this call.
    Again(JoinRequestRow),
    /// The token has no use left, is revoked or expired; its row says which.
    Refused(TokenRow),
    /// There is no such token.
    Unknown,
}

impl FromRow<'_, PgRow> for JoinRequestRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            request: NewJoinRequestRow {
                request: id(row, "request_id")?,
                cluster: id(row, "cluster_id")?,
                organization: id_option(row, "organization_id")?,
                token: id(row, "token_id")?,
                node_public_key: bytes32(row, "node_public_key")?,
                wireguard_public_key: bytes32(row, "wireguard_public_key")?,
                nonce: bytes32(row, "nonce")?,
                name: row.try_get("name")?,
                facts: row.try_get("facts")?,
                advertise: row.try_get("advertise")?,
                source: row.try_get("source")?,
            },
            state: word(row, "state")?,
            node: id_option(row, "node_id")?,
            reason: row.try_get("reason")?,
            contract: row.try_get("contract")?,
            requested_at: wall(row, "requested_at")?,
            decided_at: wall_option(row, "decided_at")?,
        })
    }
}

macro_rules! request_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " request_id, cluster_id, organization_id, token_id, node_public_key, wireguard_public_key, \
             nonce, name, facts, advertise, source, state, node_id, reason, contract, requested_at, \
             decided_at ",
            $after
        )
    };
}

statements! {
    JOIN_REQUEST_INSERT = request_columns!(
        "INSERT INTO join_requests (request_id, cluster_id, organization_id, token_id, node_public_key, \
            wireguard_public_key, nonce, name, facts, advertise, source) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING",
        ""
    );
    JOIN_REQUEST_AGAIN = request_columns!(
        "UPDATE join_requests SET wireguard_public_key = $3, nonce = $4, name = $5, facts = $6, \
            advertise = $7, source = $8, row_version = row_version + 1 \
        WHERE token_id = $1 AND node_public_key = $2 AND state = 'pending' RETURNING",
        ""
    );
    JOIN_REQUEST_BY_KEY =
        request_columns!("SELECT", "FROM join_requests WHERE token_id = $1 AND node_public_key = $2");
    JOIN_REQUEST_READ = request_columns!("SELECT", "FROM join_requests WHERE request_id = $1");
    JOIN_REQUEST_LOCK = request_columns!("SELECT", "FROM join_requests WHERE request_id = $1 FOR UPDATE");
    JOIN_REQUESTS_PENDING = request_columns!(
        "SELECT",
        "FROM join_requests WHERE cluster_id = $1 AND state = 'pending' ORDER BY request_id LIMIT 10000"
    );
    JOIN_REQUEST_APPROVE = request_columns!(
        "UPDATE join_requests SET state = 'approved', node_id = $2, contract = $3, \
            decided_at = clock_timestamp(), row_version = row_version + 1 \
        WHERE request_id = $1 AND state = 'pending' RETURNING",
        ""
    );
    JOIN_REQUEST_DENY = request_columns!(
        "UPDATE join_requests SET state = 'denied', reason = $2, decided_at = clock_timestamp(), \
            row_version = row_version + 1 WHERE request_id = $1 AND state = 'pending' RETURNING",
        ""
    );
}

/// Makes the request and takes one use of its token, or finds the request this node key made before.
/// Must run in a transaction: on [`JoinOutcome::Refused`] nothing was written.
pub async fn join_request_upsert(
    connection: &mut PgConnection,
    new: &NewJoinRequestRow,
) -> Result<JoinOutcome, StoreError> {
    // The token's lock puts racing requests in a row, so that two calls with one node key cannot
    // both miss the other's request and take two uses.
    let Some(token) = token_lock(connection, new.token).await? else { return Ok(JoinOutcome::Unknown) };
    if let Some(row) = again(connection, new).await? {
        return Ok(JoinOutcome::Again(row));
    }
    if !token_consume(connection, new.token).await? {
        return Ok(JoinOutcome::Refused(token));
    }
    let row = sqlx::query_as(JOIN_REQUEST_INSERT)
        .bind(new.request.uuid())
        .bind(new.cluster.uuid())
        .bind(new.organization.map(|id| id.uuid()))
        .bind(new.token.uuid())
        .bind(new.node_public_key.as_slice())
        .bind(new.wireguard_public_key.as_slice())
        .bind(new.nonce.as_slice())
        .bind(&new.name)
        .bind(&new.facts)
        .bind(&new.advertise)
        .bind(&new.source)
        .fetch_one(connection)
        .await?;
    Ok(JoinOutcome::Created(row))
}

async fn again(
    connection: &mut PgConnection,
    new: &NewJoinRequestRow,
) -> Result<Option<JoinRequestRow>, StoreError> {
    let pending = sqlx::query_as(JOIN_REQUEST_AGAIN)
        .bind(new.token.uuid())
        .bind(new.node_public_key.as_slice())
        .bind(new.wireguard_public_key.as_slice())
        .bind(new.nonce.as_slice())
        .bind(&new.name)
        .bind(&new.facts)
        .bind(&new.advertise)
        .bind(&new.source)
        .fetch_optional(&mut *connection)
        .await?;
    if pending.is_some() {
        return Ok(pending);
    }
    join_request_by_key(connection, new.token, &new.node_public_key).await
}

/// The request this node key made with this token.
pub async fn join_request_by_key(
    connection: &mut PgConnection,
    token: TokenId,
    node_public_key: &[u8; 32],
) -> Result<Option<JoinRequestRow>, StoreError> {
    let query = sqlx::query_as(JOIN_REQUEST_BY_KEY).bind(token.uuid()).bind(node_public_key.as_slice());
    Ok(query.fetch_optional(connection).await?)
}

/// The request with this id.
pub async fn join_request_read(
    connection: &mut PgConnection,
    request: JoinRequestId,
) -> Result<Option<JoinRequestRow>, StoreError> {
    Ok(sqlx::query_as(JOIN_REQUEST_READ).bind(request.uuid()).fetch_optional(connection).await?)
}

/// The request with this id, locked until the transaction ends: read it so before deciding.
pub async fn join_request_lock(
    connection: &mut PgConnection,
    request: JoinRequestId,
) -> Result<Option<JoinRequestRow>, StoreError> {
    Ok(sqlx::query_as(JOIN_REQUEST_LOCK).bind(request.uuid()).fetch_optional(connection).await?)
}

/// Requests nobody decided yet, oldest first.
pub async fn join_requests_pending(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<Vec<JoinRequestRow>, StoreError> {
    Ok(sqlx::query_as(JOIN_REQUESTS_PENDING).bind(cluster.uuid()).fetch_all(connection).await?)
}

/// Approves a pending request; the node's row must exist. `None` if it was decided before.
pub async fn join_request_approve(
    connection: &mut PgConnection,
    request: JoinRequestId,
    node: NodeId,
    contract: &[u8],
) -> Result<Option<JoinRequestRow>, StoreError> {
    let query = sqlx::query_as(JOIN_REQUEST_APPROVE).bind(request.uuid()).bind(node.uuid()).bind(contract);
    Ok(query.fetch_optional(connection).await?)
}

/// Denies a pending request. `None` if it was decided before.
pub async fn join_request_deny(
    connection: &mut PgConnection,
    request: JoinRequestId,
    reason: &str,
) -> Result<Option<JoinRequestRow>, StoreError> {
    let query = sqlx::query_as(JOIN_REQUEST_DENY).bind(request.uuid()).bind(reason);
    Ok(query.fetch_optional(connection).await?)
}
