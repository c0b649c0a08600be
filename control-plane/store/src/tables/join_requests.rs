//! Requests to join: made with a token use in one transaction, decided once.

use rap_authority::{Columns, RowKeys};
use rap_types::{ClusterId, JoinRequestId, JoinState, NodeId, OrganizationId, TokenId, Wall};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::tokens::{TokenRow, token_consume, token_hold};
use crate::authentic::{
    Authentic, Held, Stored, all_verified, canonical_json, held, sealing, sorted_out, verified, written,
};
use crate::columns::{bytes32, id, id_option, statements, wall, wall_option, word};
use crate::{RowName, StoreError};

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

impl Authentic for JoinRequestRow {
    const TABLE: &'static str = "join_requests";
    const KEY: &'static [&'static str] = &["request_id"];

    fn decode(row: &PgRow) -> sqlx::Result<Self> {
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

    fn key(&self) -> String {
        self.request.request.to_string()
    }

    fn columns(&self) -> Columns {
        let state =
            State { state: self.state, node: self.node, reason: &self.reason, contract: &self.contract };
        covered(&self.request, &state)
    }
}

struct State<'a> {
    state: JoinState,
    node: Option<NodeId>,
    reason: &'a Option<String>,
    contract: &'a Option<Vec<u8>>,
}

fn covered(request: &NewJoinRequestRow, state: &State<'_>) -> Columns {
    Columns::new()
        .bytes(request.cluster.as_bytes())
        .option(request.organization.as_ref().map(|id| id.as_bytes().as_slice()))
        .bytes(request.token.as_bytes())
        .bytes(&request.node_public_key)
        .bytes(&request.wireguard_public_key)
        .bytes(&request.nonce)
        .text(&request.name)
        .bytes(&canonical_json(&request.facts))
        .bytes(&canonical_json(&request.advertise))
        .text(&request.source)
        .text(state.state.as_str())
        .option(state.node.as_ref().map(|id| id.as_bytes().as_slice()))
        .option(state.reason.as_ref().map(String::as_bytes))
        .option(state.contract.as_deref())
}

macro_rules! request_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " request_id, cluster_id, organization_id, token_id, node_public_key, wireguard_public_key, \
             nonce, name, facts, advertise, source, state, node_id, reason, contract, requested_at, \
             decided_at, row_version, row_mac ",
            $after
        )
    };
}

statements! {
    JOIN_REQUEST_INSERT = request_columns!(
        "INSERT INTO join_requests (request_id, cluster_id, organization_id, token_id, node_public_key, \
            wireguard_public_key, nonce, name, facts, advertise, source, row_mac) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING",
        ""
    );
    JOIN_REQUEST_BY_KEY = request_columns!(
        "SELECT",
        "FROM join_requests WHERE token_id = $1 AND node_public_key = $2 FOR UPDATE"
    );
    JOIN_REQUEST_READ = request_columns!("SELECT", "FROM join_requests WHERE request_id = $1 AND cluster_id = $2");
    JOIN_REQUEST_LOCK = request_columns!("SELECT", "FROM join_requests WHERE request_id = $1 AND cluster_id = $2 FOR UPDATE");
    JOIN_REQUESTS_PENDING = request_columns!(
        "SELECT",
        "FROM join_requests WHERE cluster_id = $1 AND state = 'pending' ORDER BY request_id LIMIT 10000"
    );
    JOIN_REQUESTS_OF_TOKEN = request_columns!(
        "SELECT",
        "FROM join_requests WHERE cluster_id = $1 AND token_id = $2 ORDER BY request_id"
    );
    JOIN_REQUESTS_ALL =
        request_columns!("SELECT", "FROM join_requests WHERE cluster_id = $1 ORDER BY request_id");
    JOIN_REQUESTS_AFTER = request_columns!(
        "SELECT",
        "FROM join_requests WHERE cluster_id = $1 AND (request_id::text) COLLATE \"C\" > $2 \
         ORDER BY (request_id::text) COLLATE \"C\" LIMIT 500"
    );
    JOIN_REQUEST_WRITE = request_columns!(
        "UPDATE join_requests SET wireguard_public_key = $3, nonce = $4, name = $5, facts = $6, \
            advertise = $7, source = $8, state = $9::text, node_id = $10, reason = $11, contract = $12, \
            decided_at = CASE WHEN $9::text = 'pending' THEN NULL ELSE coalesce(decided_at, clock_timestamp()) END, \
            row_version = row_version + 1, row_mac = $13 \
        WHERE request_id = $1 AND row_version = $2 AND state = 'pending' RETURNING",
        ""
    );
}

/// Makes the request and takes one use of its token, or finds the request this node key made before.
/// Must run in a transaction: on [`JoinOutcome::Refused`] nothing was written.
pub async fn join_request_upsert(
    connection: &mut PgConnection,
    keys: &RowKeys,
    new: &NewJoinRequestRow,
) -> Result<JoinOutcome, StoreError> {
    // The token's lock puts racing requests in a row, so that two calls with one node key cannot
    // both miss the other's request and take two uses.
    let Some(token) = token_hold(connection, keys, new.token).await? else { return Ok(JoinOutcome::Unknown) };
    if let Some(row) = again(connection, keys, new).await? {
        return Ok(JoinOutcome::Again(row));
    }
    let presented = token.clone();
    if !token_consume(connection, keys, token).await? {
        return Ok(JoinOutcome::Refused(presented));
    }
    sealing(connection, keys).await?;
    let pending = State { state: JoinState::Pending, node: None, reason: &None, contract: &None };
    let row_mac = keys.seal(JoinRequestRow::TABLE, &new.request.to_string(), 1, &covered(new, &pending));
    let row: Stored<JoinRequestRow> = sqlx::query_as(JOIN_REQUEST_INSERT)
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
        .bind(row_mac.as_slice())
        .fetch_one(connection)
        .await?;
    Ok(JoinOutcome::Created(row.verified(keys)?))
}

/// The request this node key made before with this token; while it is pending it follows this call.
async fn again(
    connection: &mut PgConnection,
    keys: &RowKeys,
    new: &NewJoinRequestRow,
) -> Result<Option<JoinRequestRow>, StoreError> {
    let query =
        sqlx::query_as(JOIN_REQUEST_BY_KEY).bind(new.token.uuid()).bind(new.node_public_key.as_slice());
    let Some(mut row) =
        held::<JoinRequestRow>(query.fetch_optional(&mut *connection).await?, connection, keys).await?
    else {
        return Ok(None);
    };
    if row.state != JoinState::Pending {
        return Ok(Some(row.into_inner()));
    }
    let known = &row.request;
    row.request = NewJoinRequestRow {
        request: known.request,
        cluster: known.cluster,
        organization: known.organization,
        ..new.clone()
    };
    write(connection, keys, row).await.map(Some)
}

/// Writes a request that is pending in the database.
async fn write(
    connection: &mut PgConnection,
    keys: &RowKeys,
    row: Held<JoinRequestRow>,
) -> Result<JoinRequestRow, StoreError> {
    let request = &row.request;
    let stored: Option<Stored<JoinRequestRow>> = sqlx::query_as(JOIN_REQUEST_WRITE)
        .bind(request.request.uuid())
        .bind(row.stored_version()?)
        .bind(request.wireguard_public_key.as_slice())
        .bind(request.nonce.as_slice())
        .bind(&request.name)
        .bind(&request.facts)
        .bind(&request.advertise)
        .bind(&request.source)
        .bind(row.state.as_str())
        .bind(row.node.map(|id| id.uuid()))
        .bind(&row.reason)
        .bind(&row.contract)
        .bind(row.next_mac(keys))
        .fetch_optional(connection)
        .await?;
    written(u64::from(stored.is_some()))?;
    stored.ok_or(StoreError::Absent)?.verified(keys)
}

/// The request with this id in the cluster of these keys.
pub async fn join_request_read(
    connection: &mut PgConnection,
    keys: &RowKeys,
    request: JoinRequestId,
) -> Result<Option<JoinRequestRow>, StoreError> {
    let query = sqlx::query_as(JOIN_REQUEST_READ).bind(request.uuid()).bind(keys.cluster().uuid());
    verified(query.fetch_optional(&mut *connection).await?, connection, keys).await
}

/// The request with this id, locked until the transaction ends: read it so before deciding.
pub async fn join_request_hold(
    connection: &mut PgConnection,
    keys: &RowKeys,
    request: JoinRequestId,
) -> Result<Option<Held<JoinRequestRow>>, StoreError> {
    let query = sqlx::query_as(JOIN_REQUEST_LOCK).bind(request.uuid()).bind(keys.cluster().uuid());
    held(query.fetch_optional(&mut *connection).await?, connection, keys).await
}

/// Requests nobody decided yet, oldest first.
pub async fn join_requests_pending(
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<Vec<JoinRequestRow>, StoreError> {
    let query = sqlx::query_as(JOIN_REQUESTS_PENDING).bind(keys.cluster().uuid());
    all_verified(query.fetch_all(&mut *connection).await?, connection, keys).await
}

/// As [`join_requests_pending`], and the names of the rows that do not hold: to be shown.
pub async fn join_requests_and_tampered(
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<(Vec<JoinRequestRow>, Vec<RowName>), StoreError> {
    let query = sqlx::query_as(JOIN_REQUESTS_PENDING).bind(keys.cluster().uuid());
    sorted_out(query.fetch_all(&mut *connection).await?, connection, keys).await
}

/// Every request that was made with a token, whatever became of it.
///
/// # Errors
/// [`StoreError::Tampered`] for a row that does not hold, and if there are not as many as the token was used.
pub async fn join_requests_of_token(
    connection: &mut PgConnection,
    keys: &RowKeys,
    token: &TokenRow,
) -> Result<Vec<JoinRequestRow>, StoreError> {
    let id = token.token.token;
    let query = sqlx::query_as(JOIN_REQUESTS_OF_TOKEN).bind(keys.cluster().uuid()).bind(id.uuid());
    let rows: Vec<JoinRequestRow> =
        all_verified(query.fetch_all(&mut *connection).await?, connection, keys).await?;
    let asked = rows.iter().filter(|row| row.request.token == id).count();
    // Each use made one request, and requests are never removed.
    if asked != rows.len() || asked as u64 != u64::from(token.uses) {
        return Err(StoreError::Tampered { table: JoinRequestRow::TABLE, key: format!("of token {id}") });
    }
    Ok(rows)
}

/// Approves a pending request; the node's row must exist. `None` if it was decided before.
pub async fn join_request_approve(
    connection: &mut PgConnection,
    keys: &RowKeys,
    request: JoinRequestId,
    node: NodeId,
    contract: &[u8],
) -> Result<Option<JoinRequestRow>, StoreError> {
    let Some(mut row) = pending(connection, keys, request).await? else { return Ok(None) };
    (row.state, row.node, row.contract) = (JoinState::Approved, Some(node), Some(contract.to_vec()));
    write(connection, keys, row).await.map(Some)
}

/// Denies a pending request. `None` if it was decided before.
pub async fn join_request_deny(
    connection: &mut PgConnection,
    keys: &RowKeys,
    request: JoinRequestId,
    reason: &str,
) -> Result<Option<JoinRequestRow>, StoreError> {
    let Some(mut row) = pending(connection, keys, request).await? else { return Ok(None) };
    (row.state, row.reason) = (JoinState::Denied, Some(reason.to_owned()));
    write(connection, keys, row).await.map(Some)
}

async fn pending(
    connection: &mut PgConnection,
    keys: &RowKeys,
    request: JoinRequestId,
) -> Result<Option<Held<JoinRequestRow>>, StoreError> {
    let row = join_request_hold(connection, keys, request).await?;
    Ok(row.filter(|row| row.state == JoinState::Pending))
}
