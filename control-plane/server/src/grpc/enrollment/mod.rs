//! The service of applicants: this file only routes.

mod applicant;
mod member;

use rap_rpc::v1::enrollment_server::Enrollment;
use rap_wire::v1;

use crate::auth::call::Call;
use crate::grpc::answer::{Answer, service};
use crate::replica::Replica;

service! {
    /// Enrollment of `rap.fabric.v1`.
    EnrollmentService: Enrollment {
        challenge(EnrollmentChallengeRequest) -> EnrollmentChallenge: open challenge;
        join(JoinRequest) -> JoinAnswer: open applicant::join;
        bootstrap(BootstrapRequest) -> BootstrapAnswer: open applicant::poll;
        certificate(CertificateRequest) -> CertificateAnswer: open member::certificate;
        leave(LeaveRequest) -> LeaveAnswer: open member::leave;
        rotate_key(RotateKeyRequest) -> RotateKeyAnswer: open member::rotate;
    }
}

async fn challenge(
    replica: &Replica,
    call: &Call,
    _: v1::EnrollmentChallengeRequest,
) -> Answer<v1::EnrollmentChallenge> {
    Ok(v1::EnrollmentChallenge {
        nonce: call.channel.nonce_issue(&mut rand::rng()).to_vec(),
        server_time_ms: replica.watch.clock.now().wall.0,
    })
}
