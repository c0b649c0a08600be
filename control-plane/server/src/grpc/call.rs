//! One call: its id, its connection, and the operator behind it.
//!
//! Owns authorisation. An operator's authority is what the newest signed role-grant set says of the key
//! in the bearer, at or above this replica's floor; the session's row only says that the bearer was
//! given out and not taken back, and nobody without the session key can make such a row.

use rap_authority::{AdmittedGrants, Permission, SessionClaim};
use rap_contract::{GrantTerms, PublicKey, Reject};
use rap_store::{AuditPen, NewAuditRow, OperatorRow, StoreError, session_read};
use rap_types::{ClusterId, Digest, OrganizationId, PlatformRole, Reason, RequestId};
use tonic::{Request, Status};

use super::Failure;
use crate::control::Control;
use crate::findings::alarm_about;
use crate::grants;
use crate::tls::{Channel, ChannelKind};

/// What is known of a call before its message is read.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its id.
    pub id: RequestId,
    /// Its connection.
    pub channel: Channel,
    /// What the bearer it carries says, if it carries one.
    pub session: Option<SessionClaim>,
}

/// An authorised operator.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Name, from the signed grant.
    pub name: String,
    /// Role, from the same.
    pub role: PlatformRole,
    /// Key that logged in.
    pub key: PublicKey,
    /// Hash of the session's bearer.
    pub session: Digest,
    /// The call.
    pub call: RequestId,
    /// What its audit rows are written with.
    pub pen: AuditPen,
}

impl Call {
    /// Reads what the guard and the listener attached.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Box<Status>> {
        let extensions = request.extensions();
        let (Some(id), Some(channel)) = (extensions.get::<RequestId>(), extensions.get::<Channel>()) else {
            return Err(Box::new(Status::internal("a call without a guard")));
        };
        let session = extensions.get::<SessionClaim>().copied();
        Ok(Self { id: *id, channel: channel.clone(), session })
    }

    /// Takes a nonce back that this connection gave out.
    pub fn nonce(&self, nonce: &[u8]) -> Result<[u8; 32], Reject> {
        self.channel.nonce_consume(nonce)
    }

    /// The device as the audit log names it: the key that proved itself, and where it came from.
    pub fn device(&self, key: Option<&PublicKey>) -> String {
        let address = self.channel.peer().ip();
        match key {
            Some(key) => format!("{} at {address}", key.id()),
            None => format!("at {address}"),
        }
    }

    /// The node at the other end, by its certificate.
    pub fn node(&self) -> Option<rap_runtime::tls::NodeLeaf> {
        match self.channel.kind() {
            ChannelKind::Node(leaf) => Some(*leaf),
            ChannelKind::Operator => None,
        }
    }
}

/// Finds the operator behind a call and lets the call do what needs `permission`, or not.
///
/// # Errors
/// `session.missing`, `session.expired`, `activation.required`, `grant.missing`, `floor.missing`; and,
/// with an alarm, `row.tampered` and what [`grants::read`] refuses.
pub async fn authorize(control: &Control, call: &Call, permission: Permission) -> Result<Actor, Failure> {
    let missing = || Failure::new(Reason::SessionMissing, "no session");
    let claim = call.session.ok_or_else(missing)?;
    let now = control.clock.now().wall;
    let mut snapshot = control.store.system().begin_snapshot().await?;
    let session = session_read(&mut snapshot, &control.rows, claim.hash).await;
    let session = untampered(control, &claim.operator, session).await?;
    control.installation.refresh_activation(&mut snapshot).await?;
    let Some(session) = session else {
        control.known.remove(&claim.hash);
        return Err(missing());
    };
    if !session.live || claim.expires_at <= now {
        return Err(Failure::new(Reason::SessionExpired, "the session ended"));
    }
    control.installation.activated()?;
    drop(snapshot);
    let mut admitted = grants::read(control).await?;
    if now >= admitted.grants().set().expires_at {
        admitted = grants::current(control).await?;
    }
    let grant =
        admitted.allow(&claim.operator, permission, now).map_err(|reject| named(&reject, permission))?;
    believe(control, grant, &session.operator).await?;
    control.known.insert(claim.hash, claim.expires_at, now);
    let pen = control.pen.of_device(call.device(Some(&claim.operator)));
    let (name, role) = (grant.name.clone(), grant.role);
    Ok(Actor { name, role, key: claim.operator, session: claim.hash, call: call.id, pen })
}

/// The refusal with who may do it, where it is the role that lacks the permission.
fn named(reject: &Reject, permission: Permission) -> Failure {
    if reject.reason != Reason::GrantMissing || reject.what != permission.name() {
        return Failure::from(*reject);
    }
    let roles: Vec<&str> = permission.roles().iter().map(|role| role.as_str()).collect();
    Failure::new(reject.reason, format!("{} takes the role {}", permission.name(), roles.join(" or ")))
}

/// A call of an operators' service: who calls, whether the permission is there, the answer or its refusal.
macro_rules! authorized {
    ($self:ident, $request:ident, $permission:ident, $handler:path) => {{
        let call = $crate::grpc::Call::of(&$request).map_err(|status| *status)?;
        let fail = |failure: $crate::grpc::Failure| failure.status(&$self.0.metrics, call.id);
        let permission = rap_authority::Permission::$permission;
        let actor = $crate::grpc::authorize(&$self.0, &call, permission).await.map_err(fail)?;
        let answer = $handler(&$self.0, &actor, $request.into_inner()).await;
        answer.map(tonic::Response::new).map_err(fail)
    }};
}
pub(crate) use authorized;

/// What was read of an operator's row, unless its MAC does not hold.
///
/// # Errors
/// Those of reading; `row.tampered` with an alarm.
pub async fn untampered<T>(
    control: &Control,
    operator: &PublicKey,
    read: Result<T, StoreError>,
) -> Result<T, Failure> {
    if let Err(error) = &read
        && error.reason() == Reason::RowTampered
    {
        let object = format!("operator/{}", operator.id());
        alarm_about(control, Reason::RowTampered, &object, "the operator's row was altered").await;
    }
    Ok(read?)
}

/// The operator's row must repeat the signed grant.
///
/// # Errors
/// `row.tampered`, with an alarm.
pub async fn believe(control: &Control, grant: &GrantTerms, row: &OperatorRow) -> Result<(), Failure> {
    let checked = AdmittedGrants::check_operator(grant, &row.name, &row.platform_role);
    if let Err(reject) = checked {
        let object = format!("operator/{}", grant.name);
        alarm_about(control, reject.reason, &object, "the operator's row is not what was granted").await;
        return Err(reject.into());
    }
    Ok(())
}

/// An audit row without organization; callers fill in what they know.
pub fn audit(
    actor: &str,
    action: &str,
    object: String,
    cluster: Option<ClusterId>,
    after: Option<Digest>,
    reason: &str,
    request: RequestId,
) -> NewAuditRow {
    NewAuditRow {
        cluster,
        organization: None::<OrganizationId>,
        actor: actor.to_owned(),
        action: action.to_owned(),
        object,
        before_digest: None,
        after_digest: after,
        reason: reason.chars().filter(|c| !c.is_control()).take(1024).collect(),
        request,
    }
}

impl Actor {
    /// How the audit log names it.
    pub fn audit_name(&self) -> String {
        format!("operator:{}", self.name)
    }
}
