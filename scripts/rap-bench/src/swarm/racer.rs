//! One client of a race: connected, challenged, its request signed, one message away from being in.

use anyhow::{Context as _, Result, bail};
use rap_contract::Signer;
use rap_rpc::Refusal;
use rap_rpc::v1::enrollment_client::EnrollmentClient;
use rap_runtime::Clock;
use rap_trust::{ApplicantInput as Input, ApplicantOutput as Output};
use rap_types::Reason;
use rap_wire::v1;
use tonic::transport::Channel;
use x25519_dalek::{PublicKey, StaticSecret};

use super::enroll::{applicant, challenge};
use super::{Target, name, refused, source};

/// A client that has yet to send its join.
pub struct Racer {
    client: EnrollmentClient<Channel>,
    request: v1::JoinRequest,
}

impl Racer {
    /// Connects client `index` from an address of its own.
    ///
    /// # Errors
    /// When it does not even get a challenge.
    pub async fn new(target: &Target, index: usize) -> Result<Self> {
        let wireguard = PublicKey::from(&StaticSecret::from(rand::random::<[u8; 32]>())).to_bytes();
        let identity = Signer::generate(&mut rand::rng());
        let mut applicant = applicant(target, &name(index), identity, wireguard)?;
        let clock = Clock::new();
        let mut line = None;
        loop {
            let input = match applicant.poll_output() {
                Some(Output::Connect) => {
                    let challenged = line.insert(challenge(target, source(index)).await?);
                    Input::Challenged {
                        nonce: challenged.nonce.clone(),
                        exporter: challenged.exporter,
                        server_time: challenged.server_time,
                    }
                }
                Some(Output::PersistPending(id, _)) => Input::Persisted(id),
                Some(Output::SendJoin(request)) => {
                    let line = line.context("a join without a challenge")?;
                    return Ok(Self { client: line.client, request: *request });
                }
                _ => bail!("the applicant wants something else before it joins"),
            };
            applicant.handle(input, clock.now()).map_err(refused)?;
        }
    }

    /// Sends the join; the request's id, or why it was refused.
    ///
    /// # Errors
    /// The reason.
    pub async fn join(mut self) -> Result<Vec<u8>, Reason> {
        match self.client.join(self.request).await {
            Ok(answer) => Ok(answer.into_inner().request_id),
            Err(status) => Err(Refusal::from(&status).reason),
        }
    }
}
