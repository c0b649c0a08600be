//! The service of applicants: this file only routes.

mod applicant;
mod member;

use std::sync::Arc;

use rap_rpc::v1::enrollment_server::Enrollment;
use rap_wire::v1;
use tonic::{Request, Response, Status};

use crate::auth::call::Call;
use crate::failure::Failure;
use crate::grpc::answer::open;
use crate::replica::Replica;

/// Enrollment of `rap.fabric.v1`.
#[derive(Debug, Clone)]
pub struct EnrollmentService(Arc<Replica>);

impl EnrollmentService {
    /// Serves `replica`.
    pub fn new(replica: Arc<Replica>) -> Self {
        Self(replica)
    }
}

#[tonic::async_trait]
impl Enrollment for EnrollmentService {
    async fn challenge(
        &self,
        request: Request<v1::EnrollmentChallengeRequest>,
    ) -> Result<Response<v1::EnrollmentChallenge>, Status> {
        open!(self, request, challenge)
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinAnswer>, Status> {
        open!(self, request, applicant::join)
    }

    async fn bootstrap(
        &self,
        request: Request<v1::BootstrapRequest>,
    ) -> Result<Response<v1::BootstrapAnswer>, Status> {
        open!(self, request, applicant::poll)
    }

    async fn certificate(
        &self,
        request: Request<v1::CertificateRequest>,
    ) -> Result<Response<v1::CertificateAnswer>, Status> {
        open!(self, request, member::certificate)
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveAnswer>, Status> {
        open!(self, request, member::leave)
    }

    async fn rotate_key(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<Response<v1::RotateKeyAnswer>, Status> {
        open!(self, request, member::rotate)
    }
}

async fn challenge(
    replica: &Arc<Replica>,
    call: &Call,
    _: v1::EnrollmentChallengeRequest,
) -> Result<v1::EnrollmentChallenge, Failure> {
    Ok(v1::EnrollmentChallenge {
        nonce: call.channel.nonce_issue(&mut rand::rng()).to_vec(),
        server_time_ms: replica.watch.clock.now().wall.0,
    })
}
