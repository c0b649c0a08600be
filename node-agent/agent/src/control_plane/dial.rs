//! How the control plane of a membership is reached, and the connection of an applicant or of a node that proves
//! its identity key: one challenge, and the calls bound to it.
//!
//! Refuses to own retries.

use std::sync::Arc;
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

use super::TrustedTime;
use crate::config::Config;
use crate::membership::Membership;

/// How the control plane of a membership is reached.
#[derive(Clone)]
pub struct ControlPlane {
    /// URLs, tried in order.
    pub urls: Vec<ControlUrl>,
    /// Server trust pin.
    pub pin: Digest,
    /// Trusted time.
    pub time: TrustedTime,
    /// Deadline of one call, and of an attempt to connect.
    pub timeout: Duration,
}

/// A connection, with the challenge that lives in it.
pub struct EnrollmentLine {
    /// The calls. [`ControlPlane::answer`] waits for an answer.
    pub client: EnrollmentClient<Channel>,
    /// Nonce of this connection.
    pub nonce: Vec<u8>,
    /// TLS exporter of this connection.
    pub exporter: [u8; 32],
    /// The clock of the server.
    pub server_time: Wall,
}

impl ControlPlane {
    /// The control plane of a membership. The URLs of the contract are signed; those of the identity are a copy.
    ///
    /// # Errors
    /// `contract.mismatch` if the contract names no control URL.
    pub fn of(membership: &Membership, time: TrustedTime, config: &Config) -> Result<Self, Fault> {
        let urls = &membership.bootstrap.contract.control_urls;
        let urls: Vec<ControlUrl> = urls.iter().filter_map(|url| ControlUrl::parse(url).ok()).collect();
        if urls.is_empty() {
            return Err(Fault::new(Reason::ContractMismatch, "the contract names no control URL"));
        }
        Ok(Self { urls, pin: membership.identity.server_trust_pin, time, timeout: config.call_timeout })
    }

    /// Connects to the first pinned server that answers and asks it for a challenge. Says which URL that was.
    ///
    /// # Errors
    /// Why the last URL failed: transport, TLS or call.
    pub async fn line(&self) -> Result<(EnrollmentLine, usize), Fault> {
        let mut last = Fault::new(Reason::ServerUnreachable, "no control URL");
        for (index, url) in self.urls.iter().enumerate() {
            match self.open(url).await {
                Ok(line) => return Ok((line, index)),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    /// The answer to a call.
    ///
    /// # Errors
    /// `request.timeout` without an answer in time, or the refusal of the server.
    pub async fn answer<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Fault> {
        match tokio::time::timeout(self.timeout, call).await {
            Err(_) => Err(Fault::new(Reason::RequestTimeout, "no answer in time")),
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(Refusal::from(&status).fault),
        }
    }

    /// How the agent dials: an idle connection is pinged, so that a silent server is noticed.
    pub(super) fn dial(&self, config: Arc<rustls::ClientConfig>, protocol: &'static [u8]) -> Dial {
        Dial { keep_alive: Some(KEEP_ALIVE), ..Dial::new(config, protocol, self.timeout) }
    }

    async fn open(&self, url: &ControlUrl) -> Result<EnrollmentLine, Fault> {
        let config = tls::operator_client(Pins::one(self.pin), Arc::new(self.time.clone()))
            .map_err(Fault::of(Reason::ServerUnreachable))?;
        let slot = ExporterSlot::new(EXPORTER_LABEL);
        let filled = slot.clone();
        let dial = self.dial(config, tls::ALPN_OPERATOR);
        let channel = dial.open(url, move |connection| filled.fill(connection)).await?;
        let mut client = EnrollmentClient::new(channel)
            .max_decoding_message_size(MESSAGE_CAP)
            .max_encoding_message_size(MESSAGE_CAP);
        let challenge = self.answer(client.challenge(v1::EnrollmentChallengeRequest {})).await?;
        let (exporter, server_time) = (slot.read()?, Wall(challenge.server_time_ms));
        Ok(EnrollmentLine { client, nonce: challenge.nonce, exporter, server_time })
    }
}

const KEEP_ALIVE: Duration = Duration::from_secs(10);
const MESSAGE_CAP: usize = 256 * 1024;
