//! Creates and revokes join tokens.

use std::collections::BTreeSet;

use rap_authority::{FloorOf, NewToken, TokenOrder};
use rap_contract::RevocationKind;
use rap_store::{
    NewTokenRow, StoreError, SystemTransaction, TokenRow, cluster_hold, join_request_deny,
    join_requests_of_token, node_read, organization_by_name, token_insert, token_read, token_revoke,
};
use rap_types::{Digest, IdentityStatus, JoinState, NodeId, OrganizationId, Reason, TokenId};

use crate::acts::remove_node::{NodeRemoval, write_removal};
use crate::database::change::{Acting, Change};
use crate::database::handle::Database;
use crate::failure::Failure;
use crate::keys::handle::Keys;
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;
use crate::serve::revoked_tokens::floor_of;

pub(crate) async fn write_token(
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    order: &TokenOrder,
    new: &NewToken,
) -> Result<TokenRow, Failure> {
    tracing::trace!(way = "the token is signed and written");
    let row = NewTokenRow {
        token: new.id,
        cluster: cluster.id,
        organization: order.organization,
        envelope: new.envelope.clone(),
        secret_hash: new.secret_hash,
        approval: order.approval,
        roles: order.roles.clone(),
        tags: order.tags.clone(),
        ephemeral: order.ephemeral,
        max_uses: order.max_uses,
        expires_at: new.expires_at,
    };
    token_insert(transaction, &cluster.rows, &row).await?;
    let change = Change::of("token.create", format!("token/{}", new.id)).inside(cluster.id);
    let change = change.owned_by(order.organization).after(Digest::of(&[&new.envelope]));
    change.record(transaction, acting).await?;
    Ok(token_read(transaction, &cluster.rows, new.id).await?.ok_or(StoreError::Absent)?)
}

/// The token's row, and with it the nodes it admitted and the requests that wait, if so asked.
pub(crate) async fn write_revocation(
    serving: &Serving,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    token: TokenId,
    with_nodes: bool,
) -> Result<(TokenRow, Vec<NodeId>), Failure> {
    if with_nodes {
        cluster_hold(transaction, &cluster.rows).await?;
    }
    let row = token_revoke(transaction, &cluster.rows, token).await?.ok_or(StoreError::Absent)?;
    transaction.effects.signed.push((FloorOf::RevokedToken(token), floor_of(&row)));
    let change = Change::of("token.revoke", format!("token/{token}")).inside(cluster.id);
    change.owned_by(row.token.organization).record(transaction, acting).await?;
    if !with_nodes {
        return Ok((row, Vec::new()));
    }
    // The token's row is locked: who used it has committed, and nobody else will.
    let requests = join_requests_of_token(transaction, &cluster.rows, &row).await?;
    for waiting in requests.iter().filter(|row| row.state == JoinState::Pending) {
        join_request_deny(transaction, &cluster.rows, waiting.request.request, "the token was revoked")
            .await?;
    }
    let mut known = serving.revocations_now(transaction, cluster).await?;
    let (words, colon) = (&acting.reason, if acting.reason.is_empty() { "" } else { ": " });
    let acting = &Acting { reason: format!("token {token} was revoked{colon}{words}"), ..acting.clone() };
    let removal = NodeRemoval { kind: RevocationKind::Evicted, action: "node.revoke" };
    let mut nodes = Vec::new();
    let admitted: BTreeSet<NodeId> = requests.iter().filter_map(|row| row.node).collect();
    for node in admitted {
        let absent = || Failure::new(Reason::RowTampered, format!("nodes/{node} is not there"));
        let admitted = node_read(transaction, &cluster.rows, node).await?.ok_or_else(absent)?;
        if matches!(admitted.identity_status, IdentityStatus::Revoked | IdentityStatus::Left) {
            continue;
        }
        let recorded =
            write_removal(serving, transaction, acting, cluster, known, &admitted, removal).await?;
        known = recorded.known;
        nodes.push(node);
    }
    Ok((row, nodes))
}

pub(crate) async fn organization(
    keys: &Keys,
    database: &Database,
    name: &str,
) -> Result<Option<OrganizationId>, Failure> {
    if name.is_empty() {
        return Ok(None);
    }
    let mut transaction = database.store.system().begin().await?;
    let row = organization_by_name(&mut transaction, &keys.rows, name).await?;
    row.map(|row| Some(row.organization))
        .ok_or_else(|| Failure::new(Reason::ResourceNotFound, "no such organization"))
}
