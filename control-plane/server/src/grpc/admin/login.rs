//! Login: a signature by an operator's key, bound to this TLS connection; the first one activates.

use rap_authority::{
    IssuedSession, OperatorGrant, Permission, ProofChannel, decide_activation, decide_login,
};
use rap_store::operator_by_key;
use rap_types::PlatformRole;
use rap_wire::v1;

use crate::acts::activate;
use crate::acts::activate::consume;
use crate::acts::change::commit;
use crate::acts::operator_session::{begin_session, end_session, new_operator, new_session};
use crate::auth::actor::Actor;
use crate::auth::call::Call;
use crate::auth::operator_row::{alarm_if_tampered, require_row_matches_grant};
use crate::failure::Failure;
use crate::grpc::answer::Answer;
use crate::replica::Replica;
use crate::serve::role_grants;

pub(crate) async fn challenge(
    replica: &Replica,
    call: &Call,
    _: v1::LoginChallengeRequest,
) -> Answer<v1::LoginChallengeAnswer> {
    Ok(v1::LoginChallengeAnswer {
        nonce: call.channel.nonce_issue(&mut rand::rng()).to_vec(),
        installation_id: replica.keys.installation.facts.id.to_vec(),
    })
}

pub(crate) async fn activate(
    replica: &Replica,
    call: &Call,
    request: v1::ActivateRequest,
) -> Answer<v1::LoginAnswer> {
    let installation = &replica.keys.installation;
    let nonce = call.nonce(&request.nonce)?;
    let now = replica.watch.clock.now().wall;
    refresh_activation(replica).await?;
    let consumed = installation.activation().is_some();
    let terms = decide_activation(
        &installation.facts,
        consumed,
        &request.activation_manifest,
        &installation.roots,
        now,
    )?;
    let owner = [OperatorGrant {
        key: terms.owner_key,
        name: terms.owner_name.clone(),
        platform_role: PlatformRole::Owner,
    }];
    let channel = ProofChannel { nonce: &nonce, exporter: call.channel.exporter() };
    let grant =
        decide_login(installation.facts.id, &owner, &request.operator_key, &channel, &request.signature)?;
    let session = new_session(&replica.watch, &replica.config, grant);
    let manifest = &request.activation_manifest;
    let owner = format!("operator:{}", terms.owner_name);
    let acting = call.acting(&replica.keys.pen, owner, Some(&grant.key));
    let first = activate::first_change(&replica.watch, &terms, now).await?;
    commit!(&replica.serving, &acting, |transaction| {
        consume(&replica.keys, transaction, &acting, manifest, &first, &session, now).await
    })?;
    installation.adopt_activation(manifest)?;
    tracing::info!(owner = %terms.owner_name, "the installation is activated");
    Ok(answer(replica, &session, grant))
}

/// Another replica may have been activated meanwhile.
async fn refresh_activation(replica: &Replica) -> Result<(), Failure> {
    if replica.keys.installation.activation().is_none() {
        let mut transaction = replica.database.store.system().begin().await?;
        replica.keys.installation.refresh_activation(&mut transaction).await?;
    }
    Ok(())
}

pub(crate) async fn login(
    replica: &Replica,
    call: &Call,
    request: v1::LoginRequest,
) -> Answer<v1::LoginAnswer> {
    let nonce = call.nonce(&request.nonce)?;
    refresh_activation(replica).await?;
    replica.keys.installation.activated()?;
    let admitted = role_grants::current(&replica.serving).await?;
    let now = replica.watch.clock.now().wall;
    let operators = admitted.operators(now);
    let channel = ProofChannel { nonce: &nonce, exporter: call.channel.exporter() };
    let grant = decide_login(
        replica.keys.installation.facts.id,
        &operators,
        &request.operator_key,
        &channel,
        &request.signature,
    )?;
    let session = new_session(&replica.watch, &replica.config, grant);
    let operator = new_operator(grant, now);
    let granted = admitted.allow(&grant.key, Permission::SessionEnd, now)?;
    let mut transaction = replica.database.store.system().begin().await?;
    let known = operator_by_key(&mut transaction, &replica.keys.rows, grant.key.as_bytes()).await;
    drop(transaction);
    if let Some(known) = alarm_if_tampered(&replica.watch, &grant.key, known).await? {
        require_row_matches_grant(&replica.watch, granted, &known).await?;
    }
    let name = format!("operator:{}", grant.name);
    let acting = call.acting(&replica.keys.pen, name, Some(&grant.key));
    commit!(&replica.serving, &acting, |transaction| {
        begin_session(transaction, &replica.keys.rows, &acting, &operator, &session).await
    })?;
    Ok(answer(replica, &session, grant))
}

pub(crate) async fn logout(
    replica: &Replica,
    actor: &Actor,
    _: v1::LogoutRequest,
) -> Answer<v1::LogoutAnswer> {
    commit!(&replica.serving, &actor.acting(""), |transaction| end_session(transaction, actor).await)?;
    replica.serving.known.remove(&actor.session);
    Ok(v1::LogoutAnswer {})
}

fn answer(replica: &Replica, session: &IssuedSession, grant: &OperatorGrant) -> v1::LoginAnswer {
    let claim = &session.claim;
    replica.serving.known.insert(claim.hash, claim.expires_at, replica.watch.clock.now().wall);
    v1::LoginAnswer {
        session: session.bearer.to_string(),
        expires_at_ms: claim.expires_at.0,
        operator_name: grant.name.clone(),
        platform_role: grant.platform_role.to_string(),
    }
}
