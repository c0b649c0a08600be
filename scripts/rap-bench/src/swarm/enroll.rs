//! One node's enrollment: the shipped applicant decides what is asked, this sends it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rap_contract::{JoinTokenText, Signer};
use rap_rpc::Refusal;
use rap_rpc::v1::enrollment_client::EnrollmentClient;
use rap_runtime::Clock;
use rap_runtime::tls::{self, CertificateCell, Pins};
use rap_trust::certificate::{self, CertificateSubject};
use rap_trust::{
    Applicant, ApplicantInput as Input, ApplicantOutput as Output, Application, AuthorityPin,
    JoinedMembership, NodeFacts, Patience, PendingJoin, Phase, Pinned,
};
use rap_types::Wall;
use rap_wire::v1;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tonic::transport::Channel;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{Target, refused};
use crate::dial::dial;

/// A node with everything it needs to connect.
pub struct Enrolled {
    /// What its acceptor pins.
    pub pinned: Pinned,
    /// WireGuard private key.
    pub wireguard_key: Zeroizing<[u8; 32]>,
    /// Its leaf.
    pub leaf: CertificateCell,
    /// Where it connects from.
    pub source: IpAddr,
}

/// An enrollment connection and its challenge.
pub(super) struct Challenged {
    pub(super) client: EnrollmentClient<Channel>,
    pub(super) exporter: [u8; 32],
    pub(super) nonce: Vec<u8>,
    pub(super) server_time: Wall,
}

/// Joins with the target's token and obtains a leaf.
///
/// # Errors
/// When the token does not approve by itself, and what the applicant is refused for.
pub async fn enroll(target: &Target, source: IpAddr, name: &str) -> Result<Enrolled> {
    let identity = Signer::generate(&mut rand::rng());
    let wireguard_key = Zeroizing::new(rand::random::<[u8; 32]>());
    let wireguard_public = PublicKey::from(&StaticSecret::from(*wireguard_key)).to_bytes();
    let mut applicant = applicant(target, name, Signer::from_seed(&identity.seed()), wireguard_public)?;
    let membership = join(&mut applicant, target, source).await?;
    let bootstrap = membership.bootstrap;
    let header = bootstrap.contract.header();
    let pinned = Pinned {
        installation: header.installation,
        cluster: header.cluster,
        node: bootstrap.node,
        node_key: identity.id(),
        wireguard_key: wireguard_public,
        installation_authority: bootstrap.installation_authority,
        chain: Arc::new(bootstrap.chain.clone()),
        former: None,
        addresses: None,
        accept_dev: true,
    };
    let leaf = leaf(target, source, &pinned, &identity).await?;
    Ok(Enrolled { pinned, wireguard_key, leaf, source })
}

pub(super) fn applicant(
    target: &Target,
    name: &str,
    identity: Signer,
    wireguard: [u8; 32],
) -> Result<Applicant> {
    let now = Clock::new().now();
    let text = JoinTokenText::parse(&target.token).map_err(refused)?;
    let pin = AuthorityPin::default();
    let token = Application::check_token(&text, &pin, true, now.wall).map_err(refused)?;
    let facts = NodeFacts {
        name: name.to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        link_endpoints: vec![format!("{name}.example.net:7443")],
        wireguard_endpoints: vec![format!("{name}.example.net:51820")],
        ..NodeFacts::default()
    };
    let application =
        Application::new(token, Some(*text.secret()), identity, wireguard, true, facts).map_err(refused)?;
    let patience = Patience {
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(60),
        unreached: Duration::from_secs(60),
    };
    Applicant::start(application, PendingJoin::default(), patience, now).map_err(refused)
}

async fn join(applicant: &mut Applicant, target: &Target, source: IpAddr) -> Result<JoinedMembership> {
    let clock = Clock::new();
    let mut line: Option<Challenged> = None;
    let mut membership = None;
    loop {
        let input = match applicant.poll_output() {
            Some(Output::Connect) => {
                let challenged = line.insert(challenge(target, source).await?);
                Input::Challenged {
                    nonce: challenged.nonce.clone(),
                    exporter: challenged.exporter,
                    server_time: challenged.server_time,
                }
            }
            Some(Output::SendJoin(request)) => {
                let client = &mut line.as_mut().context("a join without a challenge")?.client;
                match client.join(*request).await {
                    Ok(answer) => Input::JoinAnswered(answer.into_inner()),
                    Err(status) => Input::CallFailed(Refusal::from(&status).reason),
                }
            }
            Some(Output::SendPoll(request)) => {
                let client = &mut line.as_mut().context("a poll without a challenge")?.client;
                match client.bootstrap(*request).await {
                    Ok(answer) => Input::BootstrapAnswered(answer.into_inner()),
                    Err(status) => Input::CallFailed(Refusal::from(&status).reason),
                }
            }
            Some(Output::PersistPending(id, _)) => Input::Persisted(id),
            Some(Output::PersistMembership(id, joined)) => {
                membership = Some(*joined);
                Input::Persisted(id)
            }
            Some(Output::Waiting(wait)) => bail!("the join waits: {wait:?}"),
            None => break,
        };
        applicant.handle(input, clock.now()).map_err(refused)?;
    }
    match applicant.phase() {
        Phase::Joined(_) => membership.context("joined without a membership"),
        Phase::Refused(reason) => bail!("the join was refused: {}", reason.code()),
        phase => bail!("the join stopped while {}", phase.name()),
    }
}

pub(super) async fn challenge(target: &Target, source: IpAddr) -> Result<Challenged> {
    let config = tls::operator_client(Pins::one(target.pin), Arc::new(Clock::new()))?;
    let line = dial(target.server, source, config, tls::ALPN_OPERATOR).await?;
    let mut client = EnrollmentClient::new(line.channel);
    let answer = client.challenge(v1::EnrollmentChallengeRequest {}).await.map_err(Refusal::from)?;
    let v1::EnrollmentChallenge { nonce, server_time_ms } = answer.into_inner();
    Ok(Challenged { client, exporter: line.exporter, nonce, server_time: Wall(server_time_ms) })
}

/// A fresh TLS key and the certificate for it, on proof of the identity key.
async fn leaf(
    target: &Target,
    source: IpAddr,
    pinned: &Pinned,
    identity: &Signer,
) -> Result<CertificateCell> {
    let mut line = challenge(target, source).await?;
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let csr = CertificateParams::default().serialize_request(&key)?;
    let subject = CertificateSubject { cluster: pinned.cluster, node: pinned.node };
    let request = certificate::request(subject, identity, csr.der().to_vec(), &line.nonce, &line.exporter);
    let answer = line.client.certificate(request).await.map_err(Refusal::from)?.into_inner();
    let slot = CertificateCell::new();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    slot.set(vec![CertificateDer::from(answer.leaf)], key)?;
    Ok(slot)
}
