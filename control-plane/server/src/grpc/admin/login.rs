//! Login: a signature by an operator's key, bound to this TLS connection; the first one activates.

use std::sync::Arc;

use rap_authority::{
    GrantChange, IssuedSession, OperatorGrant, Permission, ProofChannel, RowKeys, decide_activation,
    decide_login, ids,
};
use rap_contract::PublicKey;
use rap_store::{
    AuditPen, NewSession, OperatorRow, PgConnection, StoreError, audit_insert, installation_activate,
    installation_read, operator_by_key, operator_insert, session_delete, session_insert,
};
use rap_types::{Digest, OperatorId, PlatformRole, Reason, RequestId, Wall};
use rap_wire::v1;

use crate::control::Control;
use crate::grants;
use crate::grpc::{Actor, Call, Failure, audit, believe, untampered};

pub(super) async fn challenge(
    control: &Arc<Control>,
    call: &Call,
    _: v1::LoginChallengeRequest,
) -> Result<v1::LoginChallengeAnswer, Failure> {
    Ok(v1::LoginChallengeAnswer {
        nonce: call.channel.nonce_issue(&mut rand::rng()).to_vec(),
        installation_id: control.installation.facts.id.to_vec(),
    })
}

pub(super) async fn activate(
    control: &Arc<Control>,
    call: &Call,
    request: v1::ActivateRequest,
) -> Result<v1::LoginAnswer, Failure> {
    let installation = &control.installation;
    let nonce = call.nonce(&request.nonce)?;
    let now = control.clock.now().wall;
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
    let session = new_session(control, grant);
    let manifest = &request.activation_manifest;
    let pen = control.pen.of_device(call.device(Some(&grant.key)));
    let first = grants::first_change(control, &terms, now).await?;
    let done: Result<(), Failure> = rap_store::transact!(control.store.system(), |connection| {
        consume(control, connection, &pen, manifest, &first, &session, call, now).await
    });
    done?;
    installation.adopt_activation(manifest)?;
    grants::current(control).await?;
    tracing::info!(owner = %terms.owner_name, "the installation is activated");
    Ok(answer(control, &session, grant))
}

/// Of racing activations one stores its manifest; the others find it taken.
#[allow(clippy::too_many_arguments, reason = "one transaction's worth")]
async fn consume(
    control: &Control,
    connection: &mut PgConnection,
    pen: &AuditPen,
    manifest: &[u8],
    first: &GrantChange,
    session: &IssuedSession,
    call: &Call,
    now: Wall,
) -> Result<(), Failure> {
    // The verified manifest answers this nonce.
    let request_nonce = &control.installation.facts.request_nonce;
    if !installation_activate(connection, manifest, request_nonce).await? {
        return Err(Failure::new(Reason::ActivationReplayed, "this activation was already consumed"));
    }
    let operator = write_first(connection, &control.rows, pen, manifest, first, call.id, now).await?;
    begin(connection, &row(session, &operator)).await
}

/// Writes a session down. Its end is by this host's clock, its beginning by the database's.
async fn begin(connection: &mut PgConnection, session: &NewSession) -> Result<(), Failure> {
    match session_insert(connection, session).await {
        Err(StoreError::Violated { constraint }) if constraint == "operator_sessions_check" => {
            Err(Failure::new(Reason::ClockSkew, "the clocks of the control plane and of its database differ"))
        }
        inserted => Ok(inserted?),
    }
}

/// The first owner: grant 1 of set 1, the operator's row, the audit row.
async fn write_first(
    connection: &mut PgConnection,
    rows: &RowKeys,
    pen: &AuditPen,
    manifest: &[u8],
    first: &GrantChange,
    call: RequestId,
    now: Wall,
) -> Result<OperatorRow, Failure> {
    grants::store_change(connection, rows, first, now).await?;
    let actor = format!("operator:{}", first.terms.name);
    let digest = Some(Digest::of(&[manifest]));
    let entry = audit(&actor, "installation.activate", "installation".into(), None, digest, "", call);
    audit_insert(connection, pen, &entry).await?;
    Ok(operator_by_key(connection, rows, first.terms.subject.as_bytes()).await?.ok_or(StoreError::Absent)?)
}

pub(super) async fn login(
    control: &Arc<Control>,
    call: &Call,
    request: v1::LoginRequest,
) -> Result<v1::LoginAnswer, Failure> {
    let nonce = call.nonce(&request.nonce)?;
    if control.installation.activation().is_none() {
        let mut transaction = control.store.system().begin().await?;
        control.installation.refresh_activation(&mut transaction).await?;
    }
    control.installation.activated()?;
    let admitted = grants::current(control).await?;
    let now = control.clock.now().wall;
    let operators = admitted.operators(now);
    let channel = ProofChannel { nonce: &nonce, exporter: call.channel.exporter() };
    let grant = decide_login(
        control.installation.facts.id,
        &operators,
        &request.operator_key,
        &channel,
        &request.signature,
    )?;
    let session = new_session(control, grant);
    let operator = new_operator(grant, now);
    let granted = admitted.allow(&grant.key, Permission::SessionEnd, now)?;
    let mut transaction = control.store.system().begin().await?;
    let known = operator_by_key(&mut transaction, &control.rows, grant.key.as_bytes()).await;
    drop(transaction);
    if let Some(known) = untampered(control, &grant.key, known).await? {
        believe(control, granted, &known).await?;
    }
    let pen = control.pen.of_device(call.device(Some(&grant.key)));
    let done: Result<(), Failure> = rap_store::transact!(control.store.system(), |connection| {
        begin_session(connection, &control.rows, &pen, &grant.key, &operator, &session, call).await
    });
    done?;
    Ok(answer(control, &session, grant))
}

async fn begin_session(
    connection: &mut PgConnection,
    rows: &RowKeys,
    pen: &AuditPen,
    key: &PublicKey,
    new: &OperatorRow,
    session: &IssuedSession,
    call: &Call,
) -> Result<(), Failure> {
    let operator = match operator_by_key(connection, rows, key.as_bytes()).await? {
        Some(operator) if operator.disabled_at.is_some() => {
            return Err(Failure::new(Reason::LoginRefused, "the operator is shut out"));
        }
        Some(operator) => operator,
        None => {
            operator_insert(connection, rows, new).await?;
            new.clone()
        }
    };
    begin(connection, &row(session, &operator)).await?;
    let actor = format!("operator:{}", operator.name);
    let entry =
        audit(&actor, "session.begin", format!("operator/{}", operator.operator), None, None, "", call.id);
    audit_insert(connection, pen, &entry).await?;
    Ok(())
}

pub(super) async fn logout(
    control: &Arc<Control>,
    actor: &Actor,
    _: v1::LogoutRequest,
) -> Result<v1::LogoutAnswer, Failure> {
    let done: Result<(), Failure> =
        rap_store::transact!(control.store.system(), |connection| { end_session(connection, actor).await });
    done?;
    control.known.remove(&actor.session);
    Ok(v1::LogoutAnswer {})
}

async fn end_session(connection: &mut PgConnection, actor: &Actor) -> Result<(), Failure> {
    session_delete(connection, actor.session).await?;
    let entry = audit(&actor.audit_name(), "session.end", "session".into(), None, None, "", actor.call);
    audit_insert(connection, &actor.pen, &entry).await?;
    Ok(())
}

fn new_session(control: &Control, grant: &OperatorGrant) -> IssuedSession {
    let expires_at = control.clock.now().wall.plus(control.config.session);
    control.session_key.issue(grant.key, expires_at, &mut rand::rng())
}

fn row(session: &IssuedSession, operator: &OperatorRow) -> NewSession {
    NewSession {
        token_hash: session.claim.hash,
        operator: operator.operator,
        operator_public_key: operator.public_key,
        expires_at: session.claim.expires_at,
    }
}

fn answer(control: &Control, session: &IssuedSession, grant: &OperatorGrant) -> v1::LoginAnswer {
    let claim = &session.claim;
    control.known.insert(claim.hash, claim.expires_at, control.clock.now().wall);
    v1::LoginAnswer {
        session: session.bearer.to_string(),
        expires_at_ms: claim.expires_at.0,
        operator_name: grant.name.clone(),
        platform_role: grant.platform_role.to_string(),
    }
}

fn new_operator(grant: &OperatorGrant, now: Wall) -> OperatorRow {
    OperatorRow {
        operator: OperatorId::from_parts(ids::millis(now), ids::random(&mut rand::rng())),
        name: grant.name.clone(),
        public_key: *grant.key.as_bytes(),
        platform_role: grant.platform_role.to_string(),
        disabled_at: None,
    }
}

/// Activates a development installation with the manifest its own root signed.
pub async fn activate_dev(
    connection: &mut PgConnection,
    rows: &RowKeys,
    pen: &AuditPen,
    manifest: &[u8],
    first: &GrantChange,
    now: Wall,
) -> Result<(), Failure> {
    let row = installation_read(connection)
        .await?
        .ok_or_else(|| Failure::new(Reason::ConfigInvalid, "the database has no installation"))?;
    if !installation_activate(connection, manifest, &row.installation.activation_nonce).await? {
        return Err(Failure::new(Reason::ActivationReplayed, "already activated"));
    }
    let call = RequestId::from_parts(ids::millis(now), ids::random(&mut rand::rng()));
    write_first(connection, rows, pen, manifest, first, call, now).await?;
    Ok(())
}
