//! One call: its id, its connection, and the operator behind it.
//!
//! Owns authorisation. An operator's authority is what the signed activation says of the key in the
//! bearer; the session's row only says that the bearer was given out and not taken back, and nobody
//! without the session key can make such a row.

use rap_authority::{Permission, SessionClaim};
use rap_contract::{PublicKey, Reject};
use rap_store::{AuditPen, NewAuditRow, session_read};
use rap_types::{ClusterId, Digest, OrganizationId, Reason, RequestId};
use tonic::{Request, Status};

use super::Failure;
use crate::control::Control;
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
    /// Name, from the signed document.
    pub name: String,
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
/// `session.missing`, `session.expired`, `activation.required`, `grant.missing`.
pub async fn authorize(control: &Control, call: &Call, permission: Permission) -> Result<Actor, Failure> {
    let missing = || Failure::new(Reason::SessionMissing, "no session");
    let claim = call.session.ok_or_else(missing)?;
    let now = control.clock.now().wall;
    let mut transaction = control.store.system().begin().await?;
    let session = session_read(&mut transaction, &control.rows, claim.hash).await?;
    control.installation.refresh_activation(&mut transaction).await?;
    drop(transaction);
    let Some(session) = session else {
        control.known.remove(&claim.hash);
        return Err(missing());
    };
    if !session.live || claim.expires_at <= now {
        return Err(Failure::new(Reason::SessionExpired, "the session ended"));
    }
    let activation = control.installation.activated()?;
    let grant = activation
        .grants
        .iter()
        .find(|grant| grant.key == claim.operator)
        .ok_or_else(|| Failure::new(Reason::GrantMissing, "no signed grant names this operator"))?;
    permission.check(grant.platform_role)?;
    control.known.insert(claim.hash, claim.expires_at, now);
    let pen = control.pen.of_device(call.device(Some(&claim.operator)));
    Ok(Actor { name: grant.name.clone(), session: claim.hash, call: call.id, pen })
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
        reason: reason.chars().take(1024).collect(),
        request,
    }
}

impl Actor {
    /// How the audit log names it.
    pub fn audit_name(&self) -> String {
        format!("operator:{}", self.name)
    }
}
