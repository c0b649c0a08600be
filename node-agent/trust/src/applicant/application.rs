//! What an applicant brings, and the messages it signs.

use rap_contract::{
    BootstrapExpectation, Expectation, JOIN_PROOF, JoinTokenText, POLL_PROOF, PublicKey, Reject, Signer,
    Verified, VerifiedBootstrap, open_bootstrap, sign_possession,
};
use rap_types::{JoinRequestId, Reason, TokenId, Wall, sense};
use rap_wire::v1;
use zeroize::Zeroizing;

use crate::{AuthorityPin, OwnAddresses, known_features};

/// A checked token, the keys made for it, and what the node tells about itself.
pub struct Application {
    token: Verified<v1::JoinToken>,
    token_id: TokenId,
    authority: PublicKey,
    secret: Option<Zeroizing<[u8; 32]>>,
    identity: Signer,
    wireguard_key: [u8; 32],
    accept_dev: bool,
    facts: NodeFacts,
}

/// What a node tells about itself when it asks. Facts, not permissions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Wished name.
    pub name: String,
    /// Capability words.
    pub capabilities: Vec<String>,
    /// Version of the agent.
    pub agent_version: String,
    /// Advertised link endpoints, `host:port`.
    pub link_endpoints: Vec<String>,
    /// Advertised WireGuard endpoints, `host:port`.
    pub wireguard_endpoints: Vec<String>,
    /// Region.
    pub region: String,
}

impl Application {
    /// Checks a token against the key it names and the operator's pin.
    ///
    /// # Errors
    /// The token does not verify; `pin.mismatch`, `authority.dev_refused`.
    pub fn check_token(
        text: &JoinTokenText,
        pin: &AuthorityPin,
        accept_dev: bool,
        now: Wall,
    ) -> Result<Verified<v1::JoinToken>, Reject> {
        tracing::trace!(way = "the token is checked");
        let expect =
            Expectation { now: Some(now), features: known_features(accept_dev), ..Expectation::default() };
        let token = text.open(&expect)?;
        pin.check(&PublicKey::from_slice(&token.cluster_authority_key)?)?;
        Ok(token)
    }

    /// Puts an application together. `secret` is absent when a request that was already made is resumed.
    ///
    /// # Errors
    /// `payload.malformed`, `key.invalid`.
    pub fn new(
        token: Verified<v1::JoinToken>,
        secret: Option<[u8; 32]>,
        identity: Signer,
        wireguard_key: [u8; 32],
        accept_dev: bool,
        facts: NodeFacts,
    ) -> Result<Self, Reject> {
        let token_id = TokenId::from_slice(&token.token_id)
            .map_err(|_| Reject::new(Reason::PayloadMalformed, "token_id"))?;
        let authority = PublicKey::from_slice(&token.cluster_authority_key)?;
        let secret = secret.map(Zeroizing::new);
        Ok(Self { token, token_id, authority, secret, identity, wireguard_key, accept_dev, facts })
    }

    /// The token.
    pub const fn token(&self) -> &Verified<v1::JoinToken> {
        &self.token
    }

    /// The cluster authority that the token pins.
    pub const fn authority(&self) -> PublicKey {
        self.authority
    }

    /// True if a new request can be made: the token's secret is there.
    pub const fn can_ask(&self) -> bool {
        self.secret.is_some()
    }

    pub(super) fn join(&self, nonce: &[u8], exporter: &[u8; 32]) -> Option<v1::JoinRequest> {
        let secret = self.secret.as_ref()?;
        let proof = v1::JoinProof {
            token_id: self.token_id.to_vec(),
            cluster_id: self.token.header().cluster.to_vec(),
            node_public_key: self.identity.public().to_vec(),
            wireguard_public_key: self.wireguard_key.to_vec(),
            nonce: nonce.to_vec(),
            exporter: exporter.to_vec(),
        };
        let facts = self.facts.clone();
        Some(v1::JoinRequest {
            token: self.token.envelope().to_vec(),
            secret: secret.to_vec(),
            signature: sign_possession(JOIN_PROOF, &proof, &self.identity),
            node_public_key: proof.node_public_key,
            wireguard_public_key: proof.wireguard_public_key,
            nonce: proof.nonce,
            name: facts.name,
            capabilities: facts.capabilities,
            agent_version: facts.agent_version,
            link_endpoints: facts.link_endpoints,
            wireguard_endpoints: facts.wireguard_endpoints,
            region: facts.region,
        })
    }

    pub(super) fn poll(
        &self,
        request: JoinRequestId,
        nonce: &[u8],
        exporter: &[u8; 32],
    ) -> v1::BootstrapRequest {
        let proof = v1::PollProof {
            request_id: request.to_vec(),
            cluster_id: self.token.header().cluster.to_vec(),
            node_public_key: self.identity.public().to_vec(),
            wireguard_public_key: self.wireguard_key.to_vec(),
            nonce: nonce.to_vec(),
            exporter: exporter.to_vec(),
        };
        v1::BootstrapRequest {
            signature: sign_possession(POLL_PROOF, &proof, &self.identity),
            request_id: proof.request_id,
            cluster_id: proof.cluster_id,
            node_public_key: proof.node_public_key,
            wireguard_public_key: proof.wireguard_public_key,
            nonce: proof.nonce,
        }
    }

    /// Verifies that a contract answers this request. An applicant that was killed between asking and
    /// hearing has asked under more than one nonce, all on its disk; any of them may be answered.
    pub(super) fn open_contract(
        &self,
        bytes: &[u8],
        request: JoinRequestId,
        nonces: &[Vec<u8>],
        now: Wall,
    ) -> Result<VerifiedBootstrap, Reject> {
        tracing::trace!(way = "the contract is checked");
        let mut refusal = Reject::new(Reason::ContractMismatch, "nonce");
        for nonce in nonces {
            let known = BootstrapExpectation {
                installation: self.token.header().installation,
                cluster: self.token.header().cluster,
                authority: self.authority,
                server_trust_pin: &self.token.server_trust_pin,
                node_key: self.identity.public(),
                wireguard_key: &self.wireguard_key,
                token: self.token_id,
                request,
                nonce,
                now,
                features: known_features(self.accept_dev),
            };
            match open_bootstrap(bytes, &known) {
                Ok(bootstrap) => return check_sense(&bootstrap).map(|()| bootstrap),
                Err(reject) => refusal = reject,
            }
            if refusal != Reject::new(Reason::ContractMismatch, "nonce") {
                break;
            }
        }
        Err(refusal)
    }
}

/// A contract that answers the request can still hold what no host can use.
fn check_sense(bootstrap: &VerifiedBootstrap) -> Result<(), Reject> {
    let contract = &bootstrap.contract;
    OwnAddresses::of_contract(contract)?;
    sense::label(&contract.node_name)
        .and_then(|()| sense::label(&contract.cluster_name))
        .and_then(|()| sense::certificate(&contract.cluster_ca))
        .map_err(|what| Reject::new(Reason::ContractInsensible, what))
}

rap_types::debug_as!(
    Application,
    |application| "Application({} for token {})",
    application.identity.id(),
    application.token_id
);
