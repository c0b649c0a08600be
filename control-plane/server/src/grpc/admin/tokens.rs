//! Join tokens: create, list, revoke.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rap_authority::{NewToken, TokenOrder, TokenScope, issue_token};
use rap_contract::{KnownRevocations, RevocationKind};
use rap_planner::addressing::ipv6_prefix;
use rap_store::{
    NewTokenRow, PgConnection, StoreError, TokenRow, audit_insert, cluster_hold, join_request_deny,
    join_requests_of_token, node_read, organization_by_name, token_cluster, token_insert, token_read,
    token_revoke, tokens_and_tampered,
};
use rap_types::{
    ApprovalMode, Digest, IdentityStatus, JoinState, NodeId, OrganizationId, Reason, Role, TokenId,
};
use rap_wire::v1;

use super::views;
use crate::adoption;
use crate::clusters::Cluster;
use crate::control::Control;
use crate::findings::{alarm_about, alarm_about_rows};
use crate::grpc::membership::{Departure, write_departure};
use crate::grpc::{Actor, Failure, audit};

pub(super) async fn create(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::TokenCreateRequest,
) -> Result<v1::TokenCreateAnswer, Failure> {
    let cluster = adoption::first_act(control, actor, &request.cluster).await?;
    let order = TokenOrder {
        roles: Role::parse_all(&request.roles)?,
        max_uses: if request.uses == 0 { 1 } else { request.uses },
        ttl: if request.ttl_ms == 0 { DEFAULT_TTL } else { Duration::from_millis(request.ttl_ms) },
        approval: if request.auto_approve { ApprovalMode::Auto } else { ApprovalMode::Manual },
        tags: request.tags,
        organization: organization(control, &request.organization).await?,
        profile: request.profile,
        ephemeral: request.ephemeral,
    };
    let installation = &control.installation;
    let overlay_pools = [cluster.ipv4_pool.to_string(), ipv6_prefix(cluster.id).to_string()];
    let scope = TokenScope {
        installation: installation.facts.id,
        cluster: cluster.id,
        cluster_name: &cluster.name,
        control_urls: &installation.control_urls,
        server_trust_pin: installation.facts.tls_ca_pin,
        overlay_pools: &overlay_pools,
        dev: installation.facts.dev,
    };
    let now = control.clock.now().wall;
    let new = issue_token(&scope, &order, &cluster.authority, now, &mut rand::rng())?;
    let row: Result<TokenRow, Failure> = rap_store::transact!(control.store.system(), |connection| {
        write(connection, actor, &cluster, &order, &new).await
    });
    let row = row?;
    Ok(v1::TokenCreateAnswer {
        token: Some(views::token(&cluster, &row, now)),
        text: new.text.text().to_string(),
    })
}

async fn write(
    connection: &mut PgConnection,
    actor: &Actor,
    cluster: &Cluster,
    order: &TokenOrder,
    new: &NewToken,
) -> Result<TokenRow, Failure> {
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
    token_insert(connection, &cluster.rows, &row).await?;
    let object = format!("token/{}", new.id);
    let digest = Some(Digest::of(&[&new.envelope]));
    let mut entry =
        audit(&actor.audit_name(), "token.create", object, Some(cluster.id), digest, "", actor.call);
    entry.organization = order.organization;
    audit_insert(connection, &actor.pen, &entry).await?;
    Ok(token_read(connection, &cluster.rows, new.id).await?.ok_or(StoreError::Absent)?)
}

pub(super) async fn list(
    control: &Arc<Control>,
    _: &Actor,
    request: v1::TokenListRequest,
) -> Result<v1::TokenListAnswer, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let mut transaction = control.store.system().begin().await?;
    let (rows, tampered) = tokens_and_tampered(&mut transaction, &cluster.rows).await?;
    let now = control.clock.now().wall;
    let mut tokens: Vec<v1::Token> = rows.iter().map(|row| views::token(&cluster, row, now)).collect();
    tokens.extend(tampered.iter().filter_map(|row| views::tampered_token(&cluster, row)));
    drop(transaction);
    alarm_about_rows(control, &tampered).await;
    Ok(v1::TokenListAnswer { tokens })
}

pub(super) async fn revoke(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::TokenRevokeRequest,
) -> Result<v1::Token, Failure> {
    let token = TokenId::from_slice(&request.token_id)?;
    let absent = || Failure::new(Reason::ResourceNotFound, "no such token");
    let mut transaction = control.store.system().begin().await?;
    let cluster = token_cluster(&mut transaction, token).await?.ok_or_else(absent)?;
    drop(transaction);
    let cluster = control.cluster(cluster).await?.ok_or_else(absent)?;
    let before = cluster.revocations.known();
    let done: Result<(TokenRow, Vec<NodeId>), Failure> =
        rap_store::transact!(control.store.system(), |connection| {
            write_revocation(control, connection, actor, &cluster, &before, token, &request).await
        });
    if let Err(failure) = &done
        && failure.reason == Reason::RowTampered
    {
        alarm_about(control, failure.reason, &format!("token/{token}"), &failure.message).await;
    }
    let (row, nodes) = done?;
    if !nodes.is_empty() {
        control.revoked(&cluster).await?;
    }
    let nodes_revoked = nodes.into_iter().map(NodeId::to_vec).collect();
    Ok(v1::Token { nodes_revoked, ..views::token(&cluster, &row, control.clock.now().wall) })
}

/// The token's row, and with it the nodes it admitted and the requests that wait, if so asked.
async fn write_revocation(
    control: &Control,
    connection: &mut PgConnection,
    actor: &Actor,
    cluster: &Cluster,
    before: &KnownRevocations,
    token: TokenId,
    request: &v1::TokenRevokeRequest,
) -> Result<(TokenRow, Vec<NodeId>), Failure> {
    if request.with_nodes {
        cluster_hold(connection, &cluster.rows).await?;
    }
    let row = token_revoke(connection, &cluster.rows, token).await?.ok_or(StoreError::Absent)?;
    let reason: String = request.reason.chars().filter(|c| !c.is_control()).take(256).collect();
    let object = format!("token/{token}");
    let mut entry =
        audit(&actor.audit_name(), "token.revoke", object, Some(cluster.id), None, &reason, actor.call);
    entry.organization = row.token.organization;
    audit_insert(connection, &actor.pen, &entry).await?;
    if !request.with_nodes {
        return Ok((row, Vec::new()));
    }
    // The token's row is locked: who used it has committed, and nobody else will.
    let requests = join_requests_of_token(connection, &cluster.rows, &row).await?;
    for waiting in requests.iter().filter(|row| row.state == JoinState::Pending) {
        join_request_deny(connection, &cluster.rows, waiting.request.request, "the token was revoked")
            .await?;
    }
    let mut known = control.revocations(connection, cluster, before).await?;
    let departure = Departure {
        kind: RevocationKind::Evicted,
        actor: actor.audit_name(),
        action: "node.revoke",
        reason: format!("token {token} was revoked{}{reason}", if reason.is_empty() { "" } else { ": " }),
        call: actor.call,
        pen: actor.pen.clone(),
    };
    let mut nodes = Vec::new();
    let admitted: BTreeSet<NodeId> = requests.iter().filter_map(|row| row.node).collect();
    for node in admitted {
        let absent = || Failure::new(Reason::RowTampered, format!("nodes/{node} is not there"));
        let admitted = node_read(connection, &cluster.rows, node).await?.ok_or_else(absent)?;
        if matches!(admitted.identity_status, IdentityStatus::Revoked | IdentityStatus::Left) {
            continue;
        }
        let recorded = write_departure(control, connection, cluster, known, &admitted, &departure).await?;
        known = recorded.known;
        nodes.push(node);
    }
    Ok((row, nodes))
}

async fn organization(control: &Control, name: &str) -> Result<Option<OrganizationId>, Failure> {
    if name.is_empty() {
        return Ok(None);
    }
    let mut transaction = control.store.system().begin().await?;
    let row = organization_by_name(&mut transaction, &control.rows, name).await?;
    row.map(|row| Some(row.organization))
        .ok_or_else(|| Failure::new(Reason::ResourceNotFound, "no such organization"))
}

const DEFAULT_TTL: Duration = Duration::from_secs(3600);
