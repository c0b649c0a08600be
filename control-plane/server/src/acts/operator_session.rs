//! Begins and ends the session of an operator.

use rap_authority::{IssuedSession, OperatorGrant, RowKeys, ids};
use rap_store::{
    NewSession, OperatorRow, PgConnection, StoreError, SystemTransaction, operator_by_key, operator_insert,
    session_delete, session_insert,
};
use rap_types::{OperatorId, Reason, Wall};

use crate::auth::actor::Actor;
use crate::config::settings::Config;
use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::watch::handle::Watch;

/// Writes a session down. Its end is by this host's clock, its beginning by the database's.
pub(crate) async fn begin(connection: &mut PgConnection, session: &NewSession) -> Result<(), Failure> {
    match session_insert(connection, session).await {
        Err(StoreError::Violated { constraint }) if constraint == "operator_sessions_check" => {
            Err(Failure::new(Reason::ClockSkew, "the clocks of the control plane and of its database differ"))
        }
        inserted => Ok(inserted?),
    }
}

pub(crate) async fn begin_session(
    transaction: &mut SystemTransaction,
    rows: &RowKeys,
    acting: &Acting,
    new: &OperatorRow,
    session: &IssuedSession,
) -> Result<(), Failure> {
    let operator = match operator_by_key(transaction, rows, &new.public_key).await? {
        Some(operator) if operator.disabled_at.is_some() => {
            return Err(Failure::new(Reason::LoginRefused, "the operator is shut out"));
        }
        Some(operator) => operator,
        None => {
            operator_insert(transaction, rows, new).await?;
            new.clone()
        }
    };
    begin(transaction, &session_row(session, &operator)).await?;
    let acting = &Acting { actor: format!("operator:{}", operator.name), ..acting.clone() };
    Change::of("session.begin", format!("operator/{}", operator.operator))
        .record(transaction, acting)
        .await?;
    Ok(())
}

pub(crate) async fn end_session(transaction: &mut SystemTransaction, actor: &Actor) -> Result<(), Failure> {
    session_delete(transaction, actor.session).await?;
    Change::of("session.end", "session").record(transaction, &actor.acting("")).await?;
    Ok(())
}

pub(crate) fn new_session(watch: &Watch, config: &Config, grant: &OperatorGrant) -> IssuedSession {
    let expires_at = watch.clock.now().wall.plus(config.session);
    watch.keys.session_key.issue(grant.key, expires_at, &mut rand::rng())
}

pub(crate) fn session_row(session: &IssuedSession, operator: &OperatorRow) -> NewSession {
    NewSession {
        token_hash: session.claim.hash,
        operator: operator.operator,
        operator_public_key: operator.public_key,
        expires_at: session.claim.expires_at,
    }
}

pub(crate) fn new_operator(grant: &OperatorGrant, now: Wall) -> OperatorRow {
    OperatorRow {
        operator: OperatorId::from_parts(ids::millis(now), ids::random(&mut rand::rng())),
        name: grant.name.clone(),
        public_key: *grant.key.as_bytes(),
        platform_role: grant.platform_role.to_string(),
        disabled_at: None,
    }
}
