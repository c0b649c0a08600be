//! One call: its id, its connection, and the bearer it carries.
//!
//! Refuses to own whether the bearer counts (`auth/authorize`).

use rap_authority::{SessionClaim, SessionKey};
use rap_contract::{PublicKey, Reject};
use rap_rpc::{RequestKey, refuse};
use rap_types::{Reason, RequestId};
use tonic::{Request, Status};

use crate::database::change::{Acting, Pending};
use crate::database::claim::Claim;
use crate::tls::channel::{Channel, ChannelKind};
use rap_store::AuditWriter;

/// The bearer in a request's `authorization` header, if it has one of our form.
pub fn bearer_claim(headers: &http::HeaderMap, key: &SessionKey) -> Option<SessionClaim> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    key.read(value.strip_prefix("Bearer ").filter(|bearer| bearer.len() <= 256)?)
}

/// What is known of a call before its message is read.
#[derive(Debug, Clone)]
pub struct Call {
    /// Id of the call; the guard makes it.
    pub id: RequestId,
    /// The connection it came on.
    pub channel: Channel,
    /// What the bearer it carries says, if it carries one.
    pub session: Option<SessionClaim>,
    /// Whether something that follows from its acts could not be done.
    pub pending: Pending,
    /// The key that the caller gave it.
    pub key: Option<RequestKey>,
    /// Path of its method.
    pub method: String,
}

/// The path that a call came on; the guard attaches it.
#[derive(Debug, Clone)]
pub struct CalledMethod(pub String);

impl Call {
    /// Reads what the guard and the listener attached.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Box<Status>> {
        let extensions = request.extensions();
        let (Some(id), Some(channel)) = (extensions.get::<RequestId>(), extensions.get::<Channel>()) else {
            return Err(Box::new(Status::internal("a call without a guard")));
        };
        let session = extensions.get::<SessionClaim>().copied();
        let (id, pending) = (*id, Pending::default());
        let key = RequestKey::of(request)
            .map_err(|malformed| Box::new(refuse(Reason::RequestInvalid, malformed.to_string(), id)))?;
        let method = extensions.get::<CalledMethod>().map(|method| method.0.clone()).unwrap_or_default();
        Ok(Self { id, channel: channel.clone(), session, pending, key, method })
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

    /// What audit rows of this call say of `actor`, who proved `key`.
    pub fn acting(&self, pen: &AuditWriter, actor: String, key: Option<&PublicKey>) -> Acting {
        let (pen, pending) = (pen.of_device(self.device(key)), self.pending.clone());
        let (call, claim) = (self.id, Claim::default());
        Acting { actor, pen, call, reason: String::new(), dry_run: false, pending, claim }
    }

    /// The node at the other end, by its certificate.
    pub fn node(&self) -> Option<rap_runtime::tls::ProvenNode> {
        match self.channel.kind() {
            ChannelKind::Node(leaf) => Some(*leaf),
            ChannelKind::Operator => None,
        }
    }
}
