//! The connection of an applicant or of a node that renews: one challenge, and the calls bound to it.
//!
//! Refuses to own dialling and retries.

use std::time::Duration;

use rap_contract::EXPORTER_LABEL;
use rap_rpc::Refusal;
use rap_rpc::dial::{ControlUrl, Dial, ExporterSlot};
use rap_rpc::v1::enrollment_client::EnrollmentClient;
use rap_runtime::Fault;
use rap_runtime::tls::{self, Pins};
use rap_types::{Digest, Reason, Wall};
use rap_wire::v1;
use tonic::transport::Channel;

/// A connection of an applicant, with the challenge that lives in it.
pub struct EnrollmentLine {
    client: EnrollmentClient<Channel>,
    exporter: [u8; 32],
    nonce: Vec<u8>,
    server_time: Wall,
    timeout: Duration,
}

impl EnrollmentLine {
    /// Connects to the pinned server and asks for a challenge.
    ///
    /// # Errors
    /// Those of transport, TLS and call.
    pub async fn open(
        url: &ControlUrl,
        pin: Digest,
        time: tls::Time,
        timeout: Duration,
    ) -> Result<Self, Fault> {
        let config = tls::operator_client(Pins::one(pin), time)
            .map_err(|error| Fault::new(Reason::ServerUnreachable, error.to_string()))?;
        let slot = ExporterSlot::new(EXPORTER_LABEL);
        let filled = slot.clone();
        let channel = dial(config, tls::ALPN_OPERATOR, timeout)
            .open(url, move |connection| filled.fill(connection))
            .await?;
        let mut client = EnrollmentClient::new(channel)
            .max_decoding_message_size(MESSAGE_CAP)
            .max_encoding_message_size(MESSAGE_CAP);
        let challenge = called(timeout, client.challenge(v1::EnrollmentChallengeRequest {})).await?;
        let exporter = slot.read()?;
        let server_time = Wall(challenge.server_time_ms);
        Ok(Self { client, exporter, nonce: challenge.nonce, server_time, timeout })
    }

    /// Nonce, exporter and server time of this connection.
    pub fn challenge(&self) -> (Vec<u8>, [u8; 32], Wall) {
        (self.nonce.clone(), self.exporter, self.server_time)
    }

    /// Asks to join.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn join(&mut self, request: v1::JoinRequest) -> Result<v1::JoinAnswer, Fault> {
        called(self.timeout, self.client.join(request)).await
    }

    /// Asks what became of the request.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn bootstrap(&mut self, request: v1::BootstrapRequest) -> Result<v1::BootstrapAnswer, Fault> {
        called(self.timeout, self.client.bootstrap(request)).await
    }

    /// Asks for a leaf.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn certificate(
        &mut self,
        request: v1::CertificateRequest,
    ) -> Result<v1::CertificateAnswer, Fault> {
        called(self.timeout, self.client.certificate(request)).await
    }

    /// Replaces keys.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn rotate_key(&mut self, request: v1::RotateKeyRequest) -> Result<v1::RotateKeyAnswer, Fault> {
        called(self.timeout, self.client.rotate_key(request)).await
    }

    /// Leaves the cluster.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn leave(&mut self, request: v1::LeaveRequest) -> Result<v1::LeaveAnswer, Fault> {
        called(self.timeout, self.client.leave(request)).await
    }
}

/// How the agent dials: an idle connection is pinged, so that a silent server is noticed.
pub(super) fn dial(
    config: std::sync::Arc<rustls::ClientConfig>,
    protocol: &'static [u8],
    timeout: Duration,
) -> Dial {
    Dial { keep_alive: Some(KEEP_ALIVE), ..Dial::new(config, protocol, timeout) }
}

async fn called<T>(
    timeout: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(timeout, call).await {
        Err(_) => Err(Fault::new(Reason::RequestTimeout, "no answer in time")),
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Refusal::from(&status).fault),
    }
}

const KEEP_ALIVE: Duration = Duration::from_secs(10);
const MESSAGE_CAP: usize = 256 * 1024;
