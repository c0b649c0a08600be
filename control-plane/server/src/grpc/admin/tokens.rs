//! Join tokens: create, list, revoke.

use std::time::Duration;

use rap_authority::{TokenOrder, TokenScope, issue_token};
use rap_planner::addressing::ipv6_prefix;
use rap_runtime::output::bounded;
use rap_store::{token_cluster, tokens_and_tampered};
use rap_types::{ApprovalMode, NodeId, Reason, Role, TokenId};
use rap_wire::v1;

use crate::acts::change::commit;
use crate::acts::token::{organization, write_revocation, write_token};
use crate::auth::actor::Actor;
use crate::database::change::REASON_CAP;
use crate::failure::Failure;
use crate::grpc::answer::Answer;
use crate::replica::Replica;
use crate::views::cluster::rows;
use crate::watch::raise::{alarm_about, alarm_about_rows};

pub(crate) async fn create(
    replica: &Replica,
    actor: &Actor,
    request: v1::TokenCreateRequest,
) -> Answer<v1::TokenCreateAnswer> {
    tracing::trace!(way = "an operator wants a token");
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let order = TokenOrder {
        roles: Role::parse_all(&request.roles)?,
        max_uses: if request.uses == 0 { 1 } else { request.uses },
        ttl: if request.ttl_ms == 0 { DEFAULT_TTL } else { Duration::from_millis(request.ttl_ms) },
        approval: if request.auto_approve { ApprovalMode::Auto } else { ApprovalMode::Manual },
        tags: request.tags,
        organization: organization(&replica.keys, &replica.database, &request.organization).await?,
        profile: request.profile,
        ephemeral: request.ephemeral,
    };
    let installation = &replica.keys.installation;
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
    let acting = actor.acting("");
    let now = replica.watch.clock.now().wall;
    let new = issue_token(&scope, &order, &cluster.authority, now, &mut rand::rng())?;
    let row = commit!(&replica.serving, &acting, |transaction| {
        write_token(transaction, &acting, &cluster, &order, &new).await
    })?;
    let floors = replica.database.floors.current().unwrap_or_default();
    Ok(v1::TokenCreateAnswer {
        token: Some(rows::token(&floors, &cluster, &row, now)),
        text: new.text.text().to_string(),
    })
}

pub(crate) async fn list(
    replica: &Replica,
    _: &Actor,
    request: v1::TokenListRequest,
) -> Answer<v1::TokenListAnswer> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let mut transaction = replica.database.store.system().begin().await?;
    let (rows, tampered) = tokens_and_tampered(&mut transaction, &cluster.rows).await?;
    let now = replica.watch.clock.now().wall;
    let floors = replica.database.floors.current().unwrap_or_default();
    let mut tokens: Vec<v1::Token> =
        rows.iter().map(|row| rows::token(&floors, &cluster, row, now)).collect();
    tokens.extend(tampered.iter().filter_map(|row| rows::tampered_token(&cluster, row)));
    drop(transaction);
    alarm_about_rows(&replica.watch, &tampered).await;
    Ok(v1::TokenListAnswer { tokens })
}

pub(crate) async fn revoke(
    replica: &Replica,
    actor: &Actor,
    request: v1::TokenRevokeRequest,
) -> Answer<v1::Token> {
    let token = TokenId::from_slice(&request.token_id)?;
    let absent = || Failure::new(Reason::ResourceNotFound, "no such token");
    let mut transaction = replica.database.store.system().begin().await?;
    let cluster = token_cluster(&mut transaction, token).await?.ok_or_else(absent)?;
    drop(transaction);
    let cluster = replica.serving.cluster(cluster).await?.ok_or_else(absent)?;
    let acting = actor.acting(bounded(&request.reason, REASON_CAP));
    let done = commit!(&replica.serving, &acting, |transaction| {
        write_revocation(&replica.serving, transaction, &acting, &cluster, token, request.with_nodes).await
    });
    if let Err(failure) = &done
        && failure.reason == Reason::RowTampered
    {
        alarm_about(&replica.watch, failure.reason, &format!("token/{token}"), &failure.message).await;
    }
    let (row, nodes) = done?;
    let nodes_revoked = nodes.into_iter().map(NodeId::to_vec).collect();
    let floors = replica.database.floors.current().unwrap_or_default();
    Ok(v1::Token { nodes_revoked, ..rows::token(&floors, &cluster, &row, replica.watch.clock.now().wall) })
}

const DEFAULT_TTL: Duration = Duration::from_secs(3600);
