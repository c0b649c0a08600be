//! A host that joins: its keys, its calls, its stream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rap_contract::{
    BootstrapExpectation, CERTIFICATE_PROOF, Expectation, FEATURE_DEV, JOIN_PROOF, JoinTokenText,
    LEAVE_PROOF, POLL_PROOF, ROTATE_KEY_PROOF, Signer, VerifiedBootstrap, open_bootstrap, sign_possession,
};
use rap_rpc::v1::enrollment_client::EnrollmentClient;
use rap_rpc::v1::node_sync_client::NodeSyncClient;
use rap_runtime::{Clock, tls};
use rap_types::{Digest, JoinRequestId, TokenId};
use rap_wire::v1;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use v1::control_message::Body;

use crate::world::{World, channel, source, tls_stream};

/// A host and the token it was given.
pub struct Host {
    pub key: Signer,
    pub wireguard: [u8; 32],
    pub token: JoinTokenText,
    pub name: String,
}

/// A node's stream to the control plane.
pub struct NodeStream {
    pub send: mpsc::Sender<v1::NodeMessage>,
    pub receive: Streaming<v1::ControlMessage>,
}

impl Host {
    pub fn new(token: &v1::TokenCreateAnswer, name: &str) -> Self {
        let mut wireguard = [0; 32];
        rand::Rng::fill_bytes(&mut rand::rng(), &mut wireguard);
        // As every key that was made from a private one: a number below p.
        wireguard[31] &= 0x3f;
        Self {
            key: Signer::generate(&mut rand::rng()),
            wireguard,
            token: JoinTokenText::parse(&token.text).unwrap(),
            name: name.into(),
        }
    }

    pub fn terms(&self) -> rap_contract::Verified<v1::JoinToken> {
        self.token.open(&Expectation { features: &[FEATURE_DEV], ..Expectation::default() }).unwrap()
    }

    /// A join request with a proof for this nonce and connection.
    pub fn join_request(&self, nonce: Vec<u8>, exporter: &[u8; 32]) -> v1::JoinRequest {
        let terms = self.terms();
        let proof = v1::JoinProof {
            token_id: terms.token_id.clone(),
            cluster_id: terms.header().cluster.to_vec(),
            node_public_key: self.key.public().to_vec(),
            wireguard_public_key: self.wireguard.to_vec(),
            nonce: nonce.clone(),
            exporter: exporter.to_vec(),
        };
        v1::JoinRequest {
            token: self.token.envelope().to_vec(),
            secret: self.token.secret().to_vec(),
            node_public_key: self.key.public().to_vec(),
            wireguard_public_key: self.wireguard.to_vec(),
            nonce,
            signature: sign_possession(JOIN_PROOF, &proof, &self.key),
            name: self.name.clone(),
            agent_version: "test".into(),
            link_endpoints: vec!["127.0.0.1:7443".into()],
            ..Default::default()
        }
    }

    /// A poll of `request`, signed for this nonce and connection.
    pub fn poll_request(&self, request: &[u8], nonce: Vec<u8>, exporter: &[u8; 32]) -> v1::BootstrapRequest {
        let cluster_id = self.terms().header().cluster.to_vec();
        let proof = v1::PollProof {
            request_id: request.to_vec(),
            cluster_id: cluster_id.clone(),
            node_public_key: self.key.public().to_vec(),
            wireguard_public_key: self.wireguard.to_vec(),
            nonce: nonce.clone(),
            exporter: exporter.to_vec(),
        };
        v1::BootstrapRequest {
            request_id: request.to_vec(),
            cluster_id,
            node_public_key: self.key.public().to_vec(),
            wireguard_public_key: self.wireguard.to_vec(),
            nonce,
            signature: sign_possession(POLL_PROOF, &proof, &self.key),
        }
    }

    /// Joins at this replica.
    pub async fn join_at(&self, world: &World, address: SocketAddr) -> Result<v1::JoinAnswer, Status> {
        let line = world.line_to(address).await;
        let mut client = EnrollmentClient::new(line.channel);
        let nonce = nonce(&mut client).await;
        Ok(client.join(self.join_request(nonce, &line.exporter)).await?.into_inner())
    }

    /// Joins over a connection of its own; returns the answer and the nonce it carried.
    pub async fn join(&self, world: &World) -> Result<(v1::JoinAnswer, Vec<u8>), Status> {
        let (mut client, exporter) = world.enrollment().await;
        let nonce = nonce(&mut client).await;
        let answer = client.join(self.join_request(nonce.clone(), &exporter)).await?;
        Ok((answer.into_inner(), nonce))
    }

    pub async fn poll(&self, world: &World, request: &[u8]) -> Result<v1::BootstrapAnswer, Status> {
        let (mut client, exporter) = world.enrollment().await;
        let nonce = nonce(&mut client).await;
        Ok(client.bootstrap(self.poll_request(request, nonce, &exporter)).await?.into_inner())
    }

    /// Checks a contract as an agent does.
    pub fn open(&self, contract: &[u8], request: &[u8], join_nonce: &[u8]) -> VerifiedBootstrap {
        let terms = self.terms();
        let known = BootstrapExpectation {
            installation: terms.header().installation,
            cluster: terms.header().cluster,
            authority: rap_contract::PublicKey::from_slice(&terms.cluster_authority_key).unwrap(),
            server_trust_pin: &terms.server_trust_pin,
            node_key: self.key.public(),
            wireguard_key: &self.wireguard,
            token: TokenId::from_slice(&terms.token_id).unwrap(),
            request: JoinRequestId::from_slice(request).unwrap(),
            nonce: join_nonce,
            now: Clock::new().now().wall,
            features: &[FEATURE_DEV],
        };
        open_bootstrap(contract, &known).unwrap()
    }

    /// Joins with an auto-approving token and opens the contract.
    pub async fn enrol(&self, world: &World) -> VerifiedBootstrap {
        let (answer, nonce) = self.join(world).await.unwrap();
        assert_eq!(answer.state, "approved");
        let bootstrap = self.poll(world, &answer.request_id).await.unwrap();
        self.open(&bootstrap.contract, &answer.request_id, &nonce)
    }

    /// Asks for a certificate over a fresh TLS key.
    pub async fn certificate(
        &self,
        world: &World,
        bootstrap: &VerifiedBootstrap,
    ) -> Result<(tls::CertificateCell, v1::CertificateAnswer), Status> {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        let (mut client, exporter) = world.enrollment().await;
        let nonce = nonce(&mut client).await;
        let cluster_id = bootstrap.contract.header().cluster.to_vec();
        let proof = v1::CertificateProof {
            node_id: bootstrap.node.to_vec(),
            cluster_id: cluster_id.clone(),
            node_public_key: self.key.public().to_vec(),
            csr_sha256: Digest::of(&[&csr]).to_vec(),
            nonce: nonce.clone(),
            exporter: exporter.to_vec(),
        };
        let request = v1::CertificateRequest {
            cluster_id,
            node_id: bootstrap.node.to_vec(),
            node_public_key: self.key.public().to_vec(),
            csr,
            nonce,
            signature: sign_possession(CERTIFICATE_PROOF, &proof, &self.key),
        };
        let answer = client.certificate(request).await?.into_inner();
        let slot = tls::CertificateCell::new();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        slot.set(vec![CertificateDer::from(answer.leaf.clone())], private).unwrap();
        Ok((slot, answer))
    }

    /// Leaves over a connection of its own.
    pub async fn leave(
        &self,
        world: &World,
        bootstrap: &VerifiedBootstrap,
    ) -> Result<v1::LeaveAnswer, Status> {
        let (mut client, exporter) = world.enrollment().await;
        let nonce = nonce(&mut client).await;
        let proof = v1::LeaveProof {
            node_id: bootstrap.node.to_vec(),
            cluster_id: bootstrap.contract.header().cluster.to_vec(),
            node_public_key: self.key.public().to_vec(),
            nonce: nonce.clone(),
            exporter: exporter.to_vec(),
        };
        let request = v1::LeaveRequest {
            cluster_id: proof.cluster_id.clone(),
            node_id: proof.node_id.clone(),
            node_public_key: proof.node_public_key.clone(),
            nonce,
            signature: sign_possession(LEAVE_PROOF, &proof, &self.key),
        };
        Ok(client.leave(request).await?.into_inner())
    }

    /// Replaces keys over a connection of its own.
    pub async fn rotate(
        &self,
        world: &World,
        bootstrap: &VerifiedBootstrap,
        new_key: Option<&Signer>,
        new_wireguard: Option<[u8; 32]>,
    ) -> Result<v1::RotateKeyAnswer, Status> {
        let (mut client, exporter) = world.enrollment().await;
        let nonce = nonce(&mut client).await;
        let proof = v1::RotateKeyProof {
            node_id: bootstrap.node.to_vec(),
            cluster_id: bootstrap.contract.header().cluster.to_vec(),
            node_public_key: self.key.public().to_vec(),
            new_node_public_key: new_key.map(|key| key.public().to_vec()).unwrap_or_default(),
            new_wireguard_public_key: new_wireguard.map(Vec::from).unwrap_or_default(),
            nonce: nonce.clone(),
            exporter: exporter.to_vec(),
        };
        let request = v1::RotateKeyRequest {
            cluster_id: proof.cluster_id.clone(),
            node_id: proof.node_id.clone(),
            node_public_key: proof.node_public_key.clone(),
            new_node_public_key: proof.new_node_public_key.clone(),
            new_wireguard_public_key: proof.new_wireguard_public_key.clone(),
            nonce,
            signature: sign_possession(ROTATE_KEY_PROOF, &proof, &self.key),
            new_signature: new_key
                .map(|key| sign_possession(ROTATE_KEY_PROOF, &proof, key))
                .unwrap_or_default(),
        };
        Ok(client.rotate_key(request).await?.into_inner())
    }

    /// Tries a TLS connection with the node's certificate and one call over it.
    pub async fn is_refused(&self, world: &World, slot: &tls::CertificateCell) -> bool {
        let config = tls::node_client(tls::Pins::one(world.pin), slot, Arc::new(Clock::new())).unwrap();
        let Ok(stream) = tls_stream(world.address(), source(), config).await else { return true };
        // The client's side of a TLS 1.3 handshake ends before the server judged the certificate.
        let (send, outgoing) = mpsc::channel(16);
        let hello = v1::NodeMessage { body: Some(v1::node_message::Body::Hello(hello())) };
        send.send(hello).await.unwrap();
        let mut client = NodeSyncClient::new(channel(stream).await);
        match client.sync(ReceiverStream::new(outgoing)).await {
            Err(_) => true,
            Ok(answer) => answer.into_inner().message().await.is_err(),
        }
    }

    /// A connection with the node's certificate.
    pub async fn node_channel(&self, world: &World, slot: &tls::CertificateCell) -> Channel {
        let config = tls::node_client(tls::Pins::one(world.pin), slot, Arc::new(Clock::new())).unwrap();
        channel(tls_stream(world.address(), source(), config).await.unwrap()).await
    }

    /// Opens a stream with this hello.
    pub async fn stream(
        &self,
        world: &World,
        slot: &tls::CertificateCell,
        hello: v1::NodeHello,
    ) -> NodeStream {
        let channel = self.node_channel(world, slot).await;
        let (send, outgoing) = mpsc::channel(16);
        let hello = v1::NodeMessage { body: Some(v1::node_message::Body::Hello(hello)) };
        send.send(hello).await.unwrap();
        let receive = NodeSyncClient::new(channel)
            .max_decoding_message_size(16 << 20)
            .sync(ReceiverStream::new(outgoing))
            .await
            .unwrap()
            .into_inner();
        NodeStream { send, receive }
    }
}

/// Makes the cluster `prod` with one member, `one`: who it is, what it was told, its certificate.
pub async fn member(world: &World) -> (Host, VerifiedBootstrap, tls::CertificateCell) {
    world.cluster("prod").await;
    let host = Host::new(&world.token("prod", 1, true).await, "one");
    let bootstrap = host.enrol(world).await;
    let (slot, _) = host.certificate(world, &bootstrap).await.unwrap();
    (host, bootstrap, slot)
}

/// What an agent says first, holding nothing.
pub fn hello() -> v1::NodeHello {
    v1::NodeHello {
        protocol_min: 1,
        protocol_max: 1,
        features: vec![FEATURE_DEV.into()],
        agent_version: "test".into(),
        ..Default::default()
    }
}

impl NodeStream {
    /// The next message but for audit checkpoints, which come by a clock of their own.
    pub async fn next(&mut self) -> Result<Body, Status> {
        loop {
            let body = self.any().await?;
            if !matches!(body, Body::Checkpoint(_)) {
                return Ok(body);
            }
        }
    }

    /// The next message, within ten seconds.
    pub async fn any(&mut self) -> Result<Body, Status> {
        let message = tokio::time::timeout(Duration::from_secs(10), self.receive.message()).await;
        let message = message.expect("a message within ten seconds")?;
        Ok(message.and_then(|message| message.body).expect("the stream goes on"))
    }

    /// The next snapshot update, passing over everything else.
    pub async fn update(&mut self) -> v1::SnapshotUpdate {
        loop {
            if let Body::Update(update) = self.next().await.unwrap() {
                return update;
            }
        }
    }

    pub async fn say(&self, body: v1::node_message::Body) {
        self.send.send(v1::NodeMessage { body: Some(body) }).await.unwrap();
    }
}

/// A nonce of this connection.
pub async fn nonce(client: &mut EnrollmentClient<Channel>) -> Vec<u8> {
    client.challenge(v1::EnrollmentChallengeRequest {}).await.unwrap().into_inner().nonce
}
