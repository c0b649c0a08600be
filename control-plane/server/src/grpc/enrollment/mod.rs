//! The service of applicants: this file only routes.

mod approve;
mod certificate;
mod join;
mod leave;
mod poll;
mod readmit;
mod rotate;

use std::sync::Arc;

pub use approve::{Approval, approve_request, token_signer};
use rap_contract::PublicKey;
use rap_rpc::v1::enrollment_server::Enrollment;
use rap_types::{ClusterId, NodeId, Reason};
use rap_wire::v1;
use tonic::{Request, Response, Status};

use super::{Call, Failure};
use crate::control::Control;

/// Enrollment of `rap.fabric.v1`.
#[derive(Debug, Clone)]
pub struct EnrollmentService(Arc<Control>);

impl EnrollmentService {
    /// Serves `control`.
    pub fn new(control: Arc<Control>) -> Self {
        Self(control)
    }
}

macro_rules! routed {
    ($self:ident, $request:ident, $handler:path) => {{
        let call = Call::of(&$request).map_err(|status| *status)?;
        let answer = $handler(&$self.0, &call, $request.into_inner()).await;
        answer.map(Response::new).map_err(|failure| failure.status(&$self.0.metrics, call.id))
    }};
}

#[tonic::async_trait]
impl Enrollment for EnrollmentService {
    async fn challenge(
        &self,
        request: Request<v1::EnrollmentChallengeRequest>,
    ) -> Result<Response<v1::EnrollmentChallenge>, Status> {
        routed!(self, request, challenge)
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinAnswer>, Status> {
        routed!(self, request, join::join)
    }

    async fn bootstrap(
        &self,
        request: Request<v1::BootstrapRequest>,
    ) -> Result<Response<v1::BootstrapAnswer>, Status> {
        routed!(self, request, poll::poll)
    }

    async fn certificate(
        &self,
        request: Request<v1::CertificateRequest>,
    ) -> Result<Response<v1::CertificateAnswer>, Status> {
        routed!(self, request, certificate::certificate)
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveAnswer>, Status> {
        routed!(self, request, leave::leave)
    }

    async fn rotate_key(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<Response<v1::RotateKeyAnswer>, Status> {
        routed!(self, request, rotate::rotate)
    }
}

async fn challenge(
    control: &Arc<Control>,
    call: &Call,
    _: v1::EnrollmentChallengeRequest,
) -> Result<v1::EnrollmentChallenge, Failure> {
    Ok(v1::EnrollmentChallenge {
        nonce: call.channel.nonce_issue(&mut rand::rng()).to_vec(),
        server_time_ms: control.clock.now().wall.0,
    })
}

/// Who a call with a proof by an identity key says it is from. Nothing of it is proven yet.
struct Claim {
    /// Taken back from this connection.
    nonce: [u8; 32],
    key: PublicKey,
    node: NodeId,
    cluster: ClusterId,
}

impl Claim {
    fn read(call: &Call, nonce: &[u8], key: &[u8], node: &[u8], cluster: &[u8]) -> Result<Self, Failure> {
        let nonce = call.nonce(nonce)?;
        let key = node_key(key)?;
        let node = NodeId::from_slice(node).map_err(|_| refused())?;
        let cluster = ClusterId::from_slice(cluster).map_err(|_| refused())?;
        Ok(Self { nonce, key, node, cluster })
    }
}

/// One answer for every enrollment that is not the caller's: unknown, or another key's.
fn refused() -> Failure {
    Failure::new(Reason::EnrollmentRefused, "no such enrollment for this key")
}

/// A node key as sent; weak, short, long and non-canonical ones are refused at decode.
fn node_key(bytes: &[u8]) -> Result<PublicKey, Failure> {
    Ok(PublicKey::from_slice(bytes)?)
}
