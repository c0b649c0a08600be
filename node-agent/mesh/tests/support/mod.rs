//! A cluster with its authority, meshes of its nodes, and a peer that a test drives by hand.

#![allow(dead_code)]

pub mod members;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rap_link::{
    ECHO_MAX, FEATURE_FABRIC, Input, Lane, Link, Local, PeerIdentity, Permit, SessionState, Side, Timing,
};
use rap_mesh::{Dial, LinkStatus, Mesh, MeshConfig, Peer, Peers};
use rap_runtime::tls::{
    CertificateCell, ClusterTrust, EKU_EXTENSION, EKU_OID, NodeIdentity, TrustStore, any_server_name,
    link_client,
};
use rap_runtime::{Clock, TaskGroup};
use rap_types::{ChannelClass, ClusterId, InstallationId, Mono, NodeId, Reason};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SanType,
};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const HOME: ClusterId = ClusterId::from_bytes([0xc1; 16]);
pub const FOREIGN: ClusterId = ClusterId::from_bytes([0xc2; 16]);
pub const INSTALLATION: InstallationId = InstallationId::from_bytes([0x11; 16]);

/// Far beyond what any of these tests takes; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

/// One cluster's certificate authority.
pub struct Authority {
    pub cluster: ClusterId,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(cluster: ClusterId) -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = params(Duration::from_secs(7200));
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { cluster, der, issuer: Issuer::new(params, key) }
    }

    pub fn leaf(
        &self,
        node: NodeId,
        key_generation: u64,
        lifetime: Duration,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let identity =
            NodeIdentity { installation: INSTALLATION, cluster: self.cluster, node, key_generation };
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = params(lifetime);
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let mut usage = CustomExtension::from_oid_content(EKU_OID, EKU_EXTENSION.to_vec());
        usage.set_criticality(true);
        params.custom_extensions = vec![usage];
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![der, self.der.clone()], key.into())
    }

    pub fn trust(&self, revoked: &[(NodeId, u64)]) -> ClusterTrust {
        ClusterTrust {
            installation: INSTALLATION,
            authorities: vec![self.der.clone()],
            revoked: revoked.iter().copied().collect(),
        }
    }
}

fn params(lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let seconds = Clock::new().now().wall.0 / 1000;
    let now = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    params.not_before = now - Duration::from_secs(60);
    params.not_after = now + lifetime;
    params
}

/// A running mesh of one node.
pub struct Node {
    pub id: NodeId,
    pub mesh: Mesh,
    pub tasks: TaskGroup,
}

/// Settings of node `number`, which listens on its own loopback address.
pub fn config(number: u8) -> MeshConfig {
    let listen = SocketAddr::new(IpAddr::from([127, 0, 1, number]), 0);
    MeshConfig::new(node(number), HOME, listen)
}

impl Node {
    pub fn start(authority: &Authority, config: MeshConfig) -> Self {
        let id = config.node;
        let tasks = TaskGroup::new();
        let mesh = Mesh::start(config, tasks.clone()).unwrap();
        let (chain, key) = authority.leaf(id, 1, Duration::from_secs(3600));
        mesh.identify(chain, key).unwrap();
        Self { id, mesh, tasks }
    }

    pub fn address(&self) -> SocketAddr {
        self.mesh.local_addr()
    }

    pub fn status(&self, peer: NodeId) -> Option<LinkStatus> {
        self.mesh.links().into_iter().find(|link| link.peer == peer)
    }

    /// State of one lane; `None` if it is not listed.
    pub fn lane(&self, peer: NodeId, lane: Lane) -> Option<SessionState> {
        let links = self.mesh.links();
        links.iter().find(|link| (link.peer, link.lane) == (peer, lane)).map(|link| link.state)
    }

    pub fn state(&self, peer: NodeId) -> Option<SessionState> {
        self.status(peer).map(|link| link.state)
    }

    pub fn reason(&self, peer: NodeId) -> Option<Reason> {
        self.status(peer).and_then(|link| link.reason)
    }

    pub fn is_linked(&self, peer: NodeId) -> bool {
        self.state(peer) == Some(SessionState::Established)
    }

    pub fn refused(&self, reason: Reason) -> u64 {
        self.mesh.rejected().get(&reason).copied().unwrap_or(0)
    }

    pub async fn stop(self) {
        let drained = self.tasks.shutdown(Duration::from_secs(5)).await;
        assert_eq!((drained.aborted, drained.stuck, drained.failure), (vec![], vec![], None));
    }
}

/// A table of peers, each with the endpoint given or none.
pub fn peers(authority: &Authority, peers: &[(NodeId, Option<SocketAddr>)]) -> Peers {
    let peers = peers
        .iter()
        .map(|(id, endpoint)| {
            let endpoints = endpoint.iter().copied().collect();
            (*id, Peer { endpoints, deadline: Mono(u64::MAX), dial: Dial::InTurn })
        })
        .collect::<BTreeMap<_, _>>();
    Peers {
        peers,
        trust: authority.trust(&[]),
        newest_head: b"head".to_vec(),
        probe_interval: None,
        former: None,
    }
}

/// Two linked nodes; the first dials.
pub async fn linked_pair(authority: &Authority) -> (Node, Node) {
    linked_with(authority, config(1), config(2)).await
}

pub async fn linked_with(authority: &Authority, small: MeshConfig, large: MeshConfig) -> (Node, Node) {
    let (a, b) = (Node::start(authority, small), Node::start(authority, large));
    b.mesh.apply(peers(authority, &[(a.id, None)]));
    a.mesh.apply(peers(authority, &[(b.id, Some(b.address()))]));
    eventually("both linked", || a.is_linked(b.id) && b.is_linked(a.id)).await;
    (a, b)
}

/// Waits until the condition holds, looking at the level and not at edges.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let looked = tokio::time::timeout(PATIENCE, async {
        while !condition() {
            tick.tick().await;
        }
    });
    assert!(looked.await.is_ok(), "never came true: {what}");
}

/// Fails the test instead of waiting for ever.
pub async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this took too long")
}

/// A TCP connection from a chosen loopback source.
pub async fn tcp_from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::from(source), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// Reads to the end; a reset counts as one.
pub async fn read_to_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _reset = patiently(stream.read_to_end(&mut bytes)).await;
    bytes
}

/// What node `number` dials `target` with.
pub fn client(authority: &Authority, number: u8, target: NodeId) -> Arc<ClientConfig> {
    let (leaf, trust) = (CertificateCell::new(), TrustStore::new());
    let (chain, key) = authority.leaf(node(number), 1, Duration::from_secs(3600));
    leaf.set(chain, key).unwrap();
    trust.replace(HOME, authority.trust(&[]));
    link_client(&trust, &leaf, HOME, target, config(number).time).unwrap()
}

/// A node of the cluster whose session the test drives.
pub struct Puppet {
    pub stream: TlsStream<TcpStream>,
    pub link: Link,
}

impl Puppet {
    /// TLS as node `number` to `target`, nothing said yet.
    pub async fn connect(authority: &Authority, number: u8, target: &Node) -> Self {
        let tcp = TcpStream::connect(target.address()).await.unwrap();
        Self::connect_over(authority, number, target, tcp, Lane::A).await
    }

    /// TLS over a connection to `target` that stands.
    pub async fn connect_over(
        authority: &Authority,
        number: u8,
        target: &Node,
        tcp: TcpStream,
        lane: Lane,
    ) -> Self {
        Self::connect_with(authority, number, target, tcp, lane, &[FEATURE_FABRIC]).await
    }

    /// As `connect_over`, with what it offers.
    pub async fn connect_with(
        authority: &Authority,
        number: u8,
        target: &Node,
        tcp: TcpStream,
        lane: Lane,
        features: &[&str],
    ) -> Self {
        let client = client(authority, number, target.id);
        let stream = TlsConnector::from(client).connect(any_server_name(), tcp).await.unwrap();
        let features = features.iter().map(|feature| (*feature).to_owned()).collect();
        let local = Local { node: node(number), cluster: HOME, features, newest_head: vec![] };
        let side = Side::Dialer { expected: target.id, session_id: [number; 16], lane };
        let mut link = Link::new(local, side, Timing::default(), Clock::new().now());
        link.handle(Input::Opened, Clock::new().now()).unwrap();
        let peer = PeerIdentity { cluster: HOME, node: target.id };
        let permit = Permit::Until(Mono(u64::MAX));
        link.handle(Input::Authenticated { peer, permit }, Clock::new().now()).unwrap();
        Self { stream, link }
    }

    /// A puppet with an established session.
    pub async fn establish(authority: &Authority, number: u8, target: &Node) -> Self {
        let mut puppet = Self::connect(authority, number, target).await;
        puppet.say_hello().await;
        puppet
    }

    /// A puppet with an established session of a lane.
    pub async fn establish_lane(authority: &Authority, number: u8, target: &Node, lane: Lane) -> Self {
        let tcp = TcpStream::connect(target.address()).await.unwrap();
        let mut puppet = Self::connect_over(authority, number, target, tcp, lane).await;
        puppet.say_hello().await;
        puppet
    }

    /// Answers what the other side asks until `asking` is done.
    pub async fn answers<T>(&mut self, asking: impl Future<Output = T>) -> T {
        let answering = async {
            let mut buffer = vec![0; 4096];
            loop {
                let count = tokio::io::AsyncReadExt::read(&mut self.stream, &mut buffer).await.unwrap();
                self.link.receive(&buffer[..count], rap_runtime::Clock::new().now());
                self.write().await;
            }
        };
        tokio::select! {
            done = asking => done,
            () = answering => unreachable!(),
        }
    }

    /// Exchanges hellos.
    pub async fn say_hello(&mut self) {
        self.write().await;
        self.read_until(SessionState::Established).await;
    }

    pub async fn write(&mut self) {
        let bytes = self.transmit();
        self.write_raw(&bytes).await;
    }

    /// What the session wants to write.
    pub fn transmit(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.link.poll_transmit(usize::MAX, Clock::new().now(), &mut bytes);
        bytes
    }

    /// Frames with this many questions of 1 KiB of one class.
    pub fn questions(&mut self, class: ChannelClass, count: u64) -> Vec<u8> {
        for token in 0..count {
            let asked = Input::EchoAsked { token, class, payload: vec![0xb5; ECHO_MAX].into() };
            self.link.handle(asked, Clock::new().now()).unwrap();
        }
        self.transmit()
    }

    pub async fn write_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Feeds what arrives to the session, without writing, until it is in `state`.
    pub async fn read_until(&mut self, state: SessionState) {
        let mut buffer = vec![0; 16 * 1024];
        while self.link.state() != state {
            let count = patiently(self.stream.read(&mut buffer)).await.unwrap();
            assert!(count > 0, "ended in state {}", self.link.state());
            self.link.receive(&buffer[..count], Clock::new().now());
        }
    }
}
