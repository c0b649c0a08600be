//! The first owner of a development installation: logs in by key and makes clusters, tokens, changes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rap_contract::{KeyFile, LOGIN_PROOF, sign_possession};
use rap_rpc::Refusal;
use rap_rpc::v1::admin_client::AdminClient;
use rap_rpc::v1::membership_client::MembershipClient;
use rap_runtime::{Clock, tls};
use rap_types::ClusterId;
use rap_wire::v1;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::control_plane::ControlPlane;
use crate::dial::dial;

/// A logged-in operator.
pub struct Operator {
    admin: AdminClient<Channel>,
    membership: MembershipClient<Channel>,
    bearer: MetadataValue<tonic::metadata::Ascii>,
}

impl Operator {
    /// Logs the owner in whose key is in the data directory.
    pub async fn log_in(control: &ControlPlane) -> Result<Self> {
        let key = KeyFile::parse(&std::fs::read_to_string(control.owner_key())?).map_err(refused)?;
        let signer = key.unprotected().map_err(refused)?.context("the owner key has a passphrase")?;
        let config = tls::operator_client(tls::Pins::one(control.pin()?), Arc::new(Clock::new()))?;
        let line = dial(control.address(), OPERATOR, config, tls::ALPN_OPERATOR).await?;
        let membership = MembershipClient::new(line.channel.clone());
        let mut admin = AdminClient::new(line.channel);
        let challenge = admin.login_challenge(v1::LoginChallengeRequest {}).await.map_err(Refusal::from)?;
        let challenge = challenge.into_inner();
        let proof = v1::LoginProof {
            installation_id: challenge.installation_id,
            operator_key: signer.public().to_vec(),
            nonce: challenge.nonce.clone(),
            exporter: line.exporter.to_vec(),
        };
        let signature = sign_possession(LOGIN_PROOF, &proof, &signer);
        let login = v1::LoginRequest { operator_key: proof.operator_key, nonce: challenge.nonce, signature };
        let answer = admin.login(login).await.map_err(Refusal::from)?.into_inner();
        let mut bearer: MetadataValue<_> = format!("Bearer {}", answer.session).parse()?;
        bearer.set_sensitive(true);
        Ok(Self { admin, membership, bearer })
    }

    /// Makes a cluster.
    pub async fn cluster(&mut self, name: &str) -> Result<ClusterId> {
        let request = v1::ClusterCreateRequest { name: name.to_owned(), ..Default::default() };
        let request = self.request(request);
        let cluster = self.admin.cluster_create(request).await.map_err(Refusal::from)?.into_inner();
        Ok(ClusterId::from_slice(&cluster.cluster_id)?)
    }

    /// Makes a token that approves by itself, and returns its text.
    pub async fn token(&mut self, cluster: &str, uses: u32) -> Result<String> {
        self.token_with(cluster, uses, true).await
    }

    /// Makes a token and returns its text.
    pub async fn token_with(&mut self, cluster: &str, uses: u32, auto_approve: bool) -> Result<String> {
        let request = v1::TokenCreateRequest {
            cluster: cluster.to_owned(),
            roles: vec!["core".to_owned()],
            uses,
            ttl_ms: 3_600_000,
            auto_approve,
            ..Default::default()
        };
        let request = self.request(request);
        Ok(self.admin.token_create(request).await.map_err(Refusal::from)?.into_inner().text)
    }

    /// Changes a node's tags: its own assignment and nothing else.
    pub async fn set_tags(&mut self, cluster: &str, node: &str, tags: Vec<String>) -> Result<()> {
        self.update(v1::NodeUpdateRequest {
            cluster: cluster.to_owned(),
            node: node.to_owned(),
            tags,
            set_tags: true,
            ..Default::default()
        })
        .await
    }

    /// Changes a node's region: the record that every other node has of it.
    pub async fn set_region(&mut self, cluster: &str, node: &str, region: String) -> Result<()> {
        self.update(v1::NodeUpdateRequest {
            cluster: cluster.to_owned(),
            node: node.to_owned(),
            region,
            set_region: true,
            ..Default::default()
        })
        .await
    }

    /// Revokes a node for good.
    pub async fn revoke(&mut self, cluster: &str, node: &str) -> Result<()> {
        let request = self.request(v1::NodeRevokeRequest {
            cluster: cluster.to_owned(),
            node: node.to_owned(),
            reason: "bench".to_owned(),
            ..Default::default()
        });
        self.membership.node_revoke(request).await.map_err(Refusal::from)?;
        Ok(())
    }

    async fn update(&mut self, request: v1::NodeUpdateRequest) -> Result<()> {
        let request = self.request(request);
        self.admin.node_update(request).await.map_err(Refusal::from)?;
        Ok(())
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }
}

fn refused(reject: rap_contract::Reject) -> anyhow::Error {
    anyhow::anyhow!("{}: {}", reject.reason.code(), reject.what)
}

const OPERATOR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
