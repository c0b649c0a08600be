//! The service of grants: who may operate the platform, and changes to that.

use std::sync::Arc;

use rap_authority::{AdmittedGrants, GrantOrder, Permission, add_grant, permission_to_grant, revoke_grant};
use rap_contract::{GrantTerms, PublicKey};
use rap_rpc::v1::grants_server::Grants;
use rap_store::{PgConnection, audit_insert};
use rap_types::{PlatformRole, Reason, Wall};
use rap_wire::v1;
use tonic::{Request, Response, Status};

use super::{Actor, Call, Failure, audit, authorize, authorized};
use crate::control::Control;
use crate::grants;

/// Grants of `rap.fabric.v1`.
#[derive(Debug, Clone)]
pub struct GrantsService(Arc<Control>);

impl GrantsService {
    /// Serves `control`.
    pub fn new(control: Arc<Control>) -> Self {
        Self(control)
    }

    fn answer<T>(&self, call: &Call, outcome: Result<T, Failure>) -> Result<Response<T>, Status> {
        outcome.map(Response::new).map_err(|failure| failure.status(&self.0.metrics, call.id))
    }
}

#[tonic::async_trait]
impl Grants for GrantsService {
    async fn newest_set(
        &self,
        request: Request<v1::GrantSetRequest>,
    ) -> Result<Response<v1::GrantSetAnswer>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let outcome = grants::current(&self.0).await.map(|admitted| set(&admitted));
        self.answer(&call, outcome)
    }

    async fn list(
        &self,
        request: Request<v1::GrantListRequest>,
    ) -> Result<Response<v1::GrantListAnswer>, Status> {
        authorized!(self, request, GrantRead, list)
    }

    async fn show(&self, request: Request<v1::GrantRef>) -> Result<Response<v1::PlatformGrant>, Status> {
        authorized!(self, request, GrantRead, show)
    }

    async fn add(
        &self,
        request: Request<v1::GrantAddRequest>,
    ) -> Result<Response<v1::PlatformGrant>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let outcome = add(&self.0, &call, request.into_inner()).await;
        self.answer(&call, outcome)
    }

    async fn revoke(
        &self,
        request: Request<v1::GrantRevokeRequest>,
    ) -> Result<Response<v1::PlatformGrant>, Status> {
        authorized!(self, request, GrantChange, revoke)
    }
}

async fn list(control: &Control, _: &Actor, _: v1::GrantListRequest) -> Result<v1::GrantListAnswer, Failure> {
    let admitted = grants::current(control).await?;
    let now = control.clock.now().wall;
    let granted = admitted.documents().iter().filter(|terms| terms.revokes.is_none());
    Ok(v1::GrantListAnswer {
        grants: granted.map(|terms| view(&admitted, terms, now)).collect(),
        set: Some(set(&admitted)),
    })
}

async fn show(control: &Control, _: &Actor, request: v1::GrantRef) -> Result<v1::PlatformGrant, Failure> {
    let text = &request.grant;
    let admitted = grants::current(control).await?;
    // The live one of a name, or the newest that had it.
    let documents = admitted.documents();
    let gone = || documents.iter().filter(|terms| terms.revokes.is_none()).rev();
    let found = live(&admitted, text).or_else(|| named(gone, text));
    let found = found.ok_or_else(|| Failure::new(Reason::ResourceNotFound, "no such grant"))?;
    Ok(view(&admitted, found, control.clock.now().wall))
}

/// What is needed depends on the role that is granted, so the request is read first.
async fn add(
    control: &Control,
    call: &Call,
    request: v1::GrantAddRequest,
) -> Result<v1::PlatformGrant, Failure> {
    let role: PlatformRole = request.platform_role.parse()?;
    let actor = authorize(control, call, permission_to_grant(role)).await?;
    let order = GrantOrder {
        subject: PublicKey::from_slice(&request.subject_key)?,
        name: request.name,
        role,
        valid_for: (request.valid_for_ms != 0)
            .then(|| std::time::Duration::from_millis(request.valid_for_ms)),
    };
    let added: Result<GrantTerms, Failure> = rap_store::transact!(control.store.system(), |connection| {
        write_grant(control, connection, &actor, &order).await
    });
    let added = added?;
    tracing::warn!(
        operator = %added.name, role = %added.role, by = %actor.name, "a platform role was granted"
    );
    let admitted = grants::current(control).await?;
    Ok(view(&admitted, &added, control.clock.now().wall))
}

async fn write_grant(
    control: &Control,
    connection: &mut PgConnection,
    actor: &Actor,
    order: &GrantOrder,
) -> Result<GrantTerms, Failure> {
    let admitted = grants::current(control).await?;
    let now = control.clock.now().wall;
    let by = admitted.allow(&actor.key, permission_to_grant(order.role), now)?;
    let change = add_grant(&control.installation.grant_scope(), admitted.grants(), by, order, now)?;
    grants::store_change(connection, &control.rows, &change, now).await?;
    let object = format!("operator/{}", order.name);
    let reason = format!("{} for {}", order.role, order.subject.id());
    let entry =
        audit(&actor.audit_name(), "grant.add", object, None, Some(change.terms.digest), &reason, actor.call);
    audit_insert(connection, &actor.pen, &entry).await?;
    Ok(change.terms)
}

async fn revoke(
    control: &Control,
    actor: &Actor,
    request: v1::GrantRevokeRequest,
) -> Result<v1::PlatformGrant, Failure> {
    let revoked: Result<GrantTerms, Failure> = rap_store::transact!(control.store.system(), |connection| {
        write_revocation(control, connection, actor, &request).await
    });
    let revoked = revoked?;
    tracing::warn!(
        operator = %revoked.name, role = %revoked.role, by = %actor.name, "a platform role was revoked"
    );
    let admitted = grants::current(control).await?;
    Ok(view(&admitted, &revoked, control.clock.now().wall))
}

async fn write_revocation(
    control: &Control,
    connection: &mut PgConnection,
    actor: &Actor,
    request: &v1::GrantRevokeRequest,
) -> Result<GrantTerms, Failure> {
    let admitted = grants::current(control).await?;
    let now = control.clock.now().wall;
    let by = admitted.allow(&actor.key, Permission::GrantChange, now)?;
    let grant = live(&admitted, &request.grant)
        .ok_or_else(|| Failure::new(Reason::ResourceNotFound, "no such live grant"))?;
    let scope = control.installation.grant_scope();
    let change = revoke_grant(&scope, admitted.grants(), by, grant.digest, now)?;
    grants::store_change(connection, &control.rows, &change, now).await?;
    let object = format!("operator/{}", grant.name);
    let mut entry = audit(
        &actor.audit_name(),
        "grant.revoke",
        object,
        None,
        Some(change.terms.digest),
        &request.reason,
        actor.call,
    );
    entry.before_digest = Some(grant.digest);
    audit_insert(connection, &actor.pen, &entry).await?;
    Ok(grant.clone())
}

/// By digest, else by key, else by name: an operator may be called like another's digest.
fn named<'a, I: Iterator<Item = &'a GrantTerms>>(of: impl Fn() -> I, text: &str) -> Option<&'a GrantTerms> {
    of().find(|terms| terms.digest.to_string() == text)
        .or_else(|| of().find(|terms| terms.subject.id().to_string() == text))
        .or_else(|| of().find(|terms| terms.name == text))
}

fn live<'a>(admitted: &'a AdmittedGrants, text: &str) -> Option<&'a GrantTerms> {
    named(|| admitted.grants().live().iter(), text)
}

/// The newest set as this replica has verified it.
fn set(admitted: &AdmittedGrants) -> v1::GrantSetAnswer {
    let terms = admitted.grants().set();
    v1::GrantSetAnswer {
        set: admitted.envelope().to_vec(),
        sequence: terms.sequence,
        digest: terms.digest.to_vec(),
        issued_at_ms: terms.issued_at.0,
        expires_at_ms: terms.expires_at.0,
    }
}

fn view(admitted: &AdmittedGrants, terms: &GrantTerms, now: Wall) -> v1::PlatformGrant {
    let revocation = admitted.grants().revocations().iter().find(|one| one.revokes == Some(terms.digest));
    let state = match revocation {
        Some(_) => "revoked",
        None if terms.holds_at(now) => "live",
        None => "ended",
    };
    v1::PlatformGrant {
        digest: terms.digest.to_vec(),
        name: terms.name.clone(),
        subject_key: terms.subject.to_vec(),
        platform_role: terms.role.to_string(),
        state: state.to_owned(),
        issued_at_ms: terms.issued_at.0,
        expires_at_ms: terms.expires_at.map_or(0, |end| end.0),
        revoked_at_ms: revocation.map_or(0, |one| one.issued_at.0),
        taken_up: terms.taken_up,
        set_sequence: admitted.at().sequence,
    }
}
