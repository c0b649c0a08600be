//! A control plane of one cluster: enrolls, certifies, keeps one stream, says what the test wants.

use std::sync::{Arc, Mutex};

use rap_contract::{
    CERTIFICATE_PROOF, EXPORTER_LABEL, JOIN_PROOF, LEAVE_PROOF, POLL_PROOF, PublicKey, ROTATE_KEY_PROOF,
    Signer, check_possession, sign,
};
use rap_rpc::Refusal;
use rap_rpc::v1::enrollment_server::{Enrollment, EnrollmentServer};
use rap_rpc::v1::node_sync_server::{NodeSync, NodeSyncServer};
use rap_runtime::Clock;
use rap_runtime::tls::{self, ClusterTrust, NodeIdentity, Offer, TrustStore};
use rap_types::{Digest, Reason};
use rap_wire::v1;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::pki::Authority;
use crate::support::World;

/// What the control plane knows and does.
pub struct Control {
    pub world: Mutex<World>,
    pub tls_ca: Authority,
    pub cluster_ca: Authority,
    pub port: u16,
    pub state: Mutex<State>,
    /// Messages for the node, given to every new stream first and then as they come.
    pub says: watch::Sender<Vec<v1::ControlMessage>>,
    /// What nodes said.
    pub heard: mpsc::Sender<v1::NodeMessage>,
}

#[derive(Default)]
pub struct State {
    pub approved: bool,
    pub joins: Vec<v1::JoinRequest>,
    pub polls: u32,
    pub certificates: u32,
    pub streams: u32,
    /// Hellos of nodes: the port, and whether it was that of a second stream.
    pub hellos: Vec<(u16, bool)>,
    pub leaf_life_s: i64,
    /// Nodes that left.
    pub leaves: u32,
    /// Key rotations that were answered, first to last.
    pub rotations: Vec<v1::RotateKeyRequest>,
    /// Answer of every call about certificates, leaving and keys, if they are refused.
    pub refuse: Option<Reason>,
    /// Answer of every join, if they are refused.
    pub refuse_join: Option<Reason>,
    /// Answer of every stream, if they are refused.
    pub refuse_sync: Option<Reason>,
    /// Calls that were refused so.
    pub refused: u32,
}

impl State {
    fn check(&mut self) -> Result<(), Status> {
        let Some(reason) = self.refuse else { return Ok(()) };
        self.refused += 1;
        Err(refuse(reason))
    }
}

/// A running control plane; it ends when this is dropped.
pub struct Running {
    pub control: Arc<Control>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Control {
    /// Listens on a free port; the token and contract then name it.
    pub async fn start(mut world: World) -> (Running, mpsc::Receiver<v1::NodeMessage>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tls_ca, cluster_ca) = (Authority::new("installation"), Authority::new("cluster"));
        world.control_urls = vec![format!("https://127.0.0.1:{port}")];
        world.server_pin = tls_ca.pin();
        world.cluster_ca = cluster_ca.der.to_vec();
        let (heard, hears) = mpsc::channel(256);
        let state = State { leaf_life_s: 86_400, ..State::default() };
        let says = watch::Sender::new(Vec::new());
        let world = Mutex::new(world);
        let control =
            Arc::new(Self { world, tls_ca, cluster_ca, port, state: Mutex::new(state), says, heard });
        (control.clone().serve(listener), hears)
    }

    /// Listens on another port too, whose URL tokens and contracts name second.
    pub async fn also(self: &Arc<Self>) -> (Running, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        self.world.lock().unwrap().control_urls.push(format!("https://127.0.0.1:{port}"));
        (self.clone().serve(listener), port)
    }

    /// Listens again on the same port.
    pub async fn restart(self: &Arc<Self>) -> Running {
        loop {
            match TcpListener::bind(("127.0.0.1", self.port)).await {
                Ok(listener) => return self.clone().serve(listener),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    #[allow(clippy::disallowed_methods)] // A test's task ends with its guard.
    fn serve(self: Arc<Self>, listener: TcpListener) -> Running {
        let control = self.clone();
        let port = listener.local_addr().unwrap().port();
        let slot = self.tls_ca.server();
        let trust = TrustStore::new();
        let (installation, cluster) = {
            let world = self.world.lock().unwrap();
            (world.installation, world.cluster)
        };
        trust.replace(
            cluster,
            ClusterTrust {
                installation,
                authorities: vec![self.cluster_ca.der.clone()],
                revoked: Default::default(),
            },
        );
        let time = Arc::new(Clock::new());
        let operator = tls::operator_server(&slot, time.clone()).unwrap();
        let node = tls::node_server(&slot, &trust, time).unwrap();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (control, operator, node) = (self.clone(), operator.clone(), node.clone());
                let trust = trust.clone();
                connections.spawn(async move {
                    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.ok()?;
                    let hello = start.client_hello();
                    let config = match Offer::read(hello.alpn()?).ok()? {
                        Offer::Node => node,
                        Offer::Operator => operator,
                    };
                    let mut stream = start.into_stream(config).await.ok()?;
                    let exporter = tls::exporter(stream.get_ref().1, EXPORTER_LABEL).ok()?;
                    let peer = tls::peer(stream.get_ref().1, &trust).ok().map(|leaf| leaf.identity);
                    let (mut near, far) = tokio::io::duplex(64 * 1024);
                    let service = Connection { control, port, exporter, peer };
                    let one = futures_util::StreamExt::chain(
                        futures_util::stream::iter([Ok::<_, std::io::Error>(far)]),
                        futures_util::stream::pending(),
                    );
                    let server = tonic::transport::Server::builder()
                        .add_service(EnrollmentServer::from_arc(Arc::new(service.clone())))
                        .add_service(NodeSyncServer::new(service))
                        .serve_with_incoming(one);
                    tokio::select! {
                        _ = server => {}
                        _ = tokio::io::copy_bidirectional(&mut stream, &mut near) => {}
                    }
                    Some(())
                });
            }
        });
        Running { control, task }
    }

    /// Says this to the node from now on, instead of what was said before.
    pub fn say(&self, bodies: Vec<v1::control_message::Body>) {
        let messages = bodies.into_iter().map(|body| v1::ControlMessage { body: Some(body) }).collect();
        self.says.send_replace(messages);
    }
}

#[derive(Clone)]
struct Connection {
    control: Arc<Control>,
    port: u16,
    exporter: [u8; 32],
    peer: Option<NodeIdentity>,
}

const NONCE: [u8; 32] = [0x6e; 32];

fn refuse(reason: Reason) -> Status {
    Refusal::new(reason, "refused").into()
}

#[tonic::async_trait]
impl Enrollment for Connection {
    async fn challenge(
        &self,
        _: Request<v1::EnrollmentChallengeRequest>,
    ) -> Result<Response<v1::EnrollmentChallenge>, Status> {
        let server_time_ms = Clock::new().now().wall.0;
        Ok(Response::new(v1::EnrollmentChallenge { nonce: NONCE.to_vec(), server_time_ms }))
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinAnswer>, Status> {
        let request = request.into_inner();
        let world = self.control.world.lock().unwrap();
        let proof = v1::JoinProof {
            token_id: world.token_id().to_vec(),
            cluster_id: world.cluster.to_vec(),
            node_public_key: request.node_public_key.clone(),
            wireguard_public_key: request.wireguard_public_key.clone(),
            nonce: NONCE.to_vec(),
            exporter: self.exporter.to_vec(),
        };
        let key = PublicKey::from_slice(&request.node_public_key).map_err(|r| refuse(r.reason))?;
        check_possession(JOIN_PROOF, &proof, &key, &request.signature).map_err(|r| refuse(r.reason))?;
        let mut state = self.control.state.lock().unwrap();
        if let Some(reason) = state.refuse_join {
            return Err(refuse(reason));
        }
        state.joins.push(request);
        let answer = if state.approved { "approved" } else { "pending" };
        let request_id = world.request_id().to_vec();
        Ok(Response::new(v1::JoinAnswer { request_id, state: answer.into() }))
    }

    async fn bootstrap(
        &self,
        request: Request<v1::BootstrapRequest>,
    ) -> Result<Response<v1::BootstrapAnswer>, Status> {
        let request = request.into_inner();
        let world = self.control.world.lock().unwrap();
        let proof = v1::PollProof {
            request_id: world.request_id().to_vec(),
            cluster_id: world.cluster.to_vec(),
            node_public_key: request.node_public_key.clone(),
            wireguard_public_key: request.wireguard_public_key.clone(),
            nonce: NONCE.to_vec(),
            exporter: self.exporter.to_vec(),
        };
        let key = PublicKey::from_slice(&request.node_public_key).map_err(|r| refuse(r.reason))?;
        check_possession(POLL_PROOF, &proof, &key, &request.signature).map_err(|r| refuse(r.reason))?;
        let mut state = self.control.state.lock().unwrap();
        state.polls += 1;
        if !state.approved {
            let answer = v1::BootstrapAnswer { state: "pending".into(), ..Default::default() };
            return Ok(Response::new(answer));
        }
        let now = Clock::new().now().wall;
        let mut contract = world.contract(&NONCE, &request.node_public_key, &request.wireguard_public_key);
        let header = contract.header.as_mut().unwrap();
        (header.issued_at_ms, header.expires_at_ms) = (now.0, now.0 + 3_600_000);
        let contract = sign(&contract, &[&world.authority]);
        Ok(Response::new(v1::BootstrapAnswer { state: "approved".into(), message: String::new(), contract }))
    }

    async fn certificate(
        &self,
        request: Request<v1::CertificateRequest>,
    ) -> Result<Response<v1::CertificateAnswer>, Status> {
        let request = request.into_inner();
        let world = self.control.world.lock().unwrap();
        let proof = v1::CertificateProof {
            node_id: world.node.to_vec(),
            cluster_id: world.cluster.to_vec(),
            node_public_key: request.node_public_key.clone(),
            csr_sha256: Digest::of(&[&request.csr]).to_vec(),
            nonce: NONCE.to_vec(),
            exporter: self.exporter.to_vec(),
        };
        let key = PublicKey::from_slice(&request.node_public_key).map_err(|r| refuse(r.reason))?;
        check_possession(CERTIFICATE_PROOF, &proof, &key, &request.signature)
            .map_err(|r| refuse(r.reason))?;
        let mut state = self.control.state.lock().unwrap();
        state.check()?;
        state.certificates += 1;
        let identity = NodeIdentity {
            installation: world.installation,
            cluster: world.cluster,
            node: world.node,
            key_generation: world.key_generation,
        };
        let now = Clock::new().now().wall.0;
        let leaf = self.control.cluster_ca.node(identity, &request.csr, now, state.leaf_life_s);
        let cluster_ca = self.control.cluster_ca.der.to_vec();
        Ok(Response::new(v1::CertificateAnswer { leaf, cluster_ca, not_after_ms: 0 }))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveAnswer>, Status> {
        let request = request.into_inner();
        let world = self.control.world.lock().unwrap();
        let proof = v1::LeaveProof {
            node_id: world.node.to_vec(),
            cluster_id: world.cluster.to_vec(),
            node_public_key: request.node_public_key.clone(),
            nonce: NONCE.to_vec(),
            exporter: self.exporter.to_vec(),
        };
        let key = PublicKey::from_slice(&request.node_public_key).map_err(|r| refuse(r.reason))?;
        check_possession(LEAVE_PROOF, &proof, &key, &request.signature).map_err(|r| refuse(r.reason))?;
        let mut state = self.control.state.lock().unwrap();
        state.check()?;
        state.leaves += 1;
        Ok(Response::new(v1::LeaveAnswer { revocation_sequence: 1 }))
    }

    async fn rotate_key(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<Response<v1::RotateKeyAnswer>, Status> {
        let request = request.into_inner();
        let mut world = self.control.world.lock().unwrap();
        let proof = v1::RotateKeyProof {
            node_id: world.node.to_vec(),
            cluster_id: world.cluster.to_vec(),
            node_public_key: request.node_public_key.clone(),
            new_node_public_key: request.new_node_public_key.clone(),
            new_wireguard_public_key: request.new_wireguard_public_key.clone(),
            nonce: NONCE.to_vec(),
            exporter: self.exporter.to_vec(),
        };
        let holds = |key: &[u8], signature: &[u8]| {
            let key = PublicKey::from_slice(key).map_err(|r| refuse(r.reason))?;
            check_possession(ROTATE_KEY_PROOF, &proof, &key, signature).map_err(|r| refuse(r.reason))
        };
        holds(&request.node_public_key, &request.signature)?;
        let mut state = self.control.state.lock().unwrap();
        state.check()?;
        if !request.new_node_public_key.is_empty() {
            holds(&request.new_node_public_key, &request.new_signature)?;
            if state.rotations.iter().all(|done| done.new_node_public_key != request.new_node_public_key) {
                world.key_generation += 1;
            }
        }
        if let Ok(wireguard) = request.new_wireguard_public_key.clone().try_into() {
            world.wireguard_key = wireguard;
        }
        state.rotations.push(request);
        Ok(Response::new(v1::RotateKeyAnswer { key_generation: world.key_generation }))
    }
}

#[tonic::async_trait]
impl NodeSync for Connection {
    type SyncStream = ReceiverStream<Result<v1::ControlMessage, Status>>;

    #[allow(clippy::disallowed_methods)] // Ends with the stream.
    async fn sync(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        if self.peer.map(|peer| peer.node) != Some(self.control.world.lock().unwrap().node) {
            return Err(refuse(Reason::CertificateIdentity));
        }
        self.control.state.lock().unwrap().streams += 1;
        let refused = self.control.state.lock().unwrap().refuse_sync;
        refused.map_or(Ok(()), |reason| Err(refuse(reason)))?;
        let mut from = request.into_inner();
        let (to, stream) = mpsc::channel(64);
        let mut says = self.control.says.subscribe();
        says.mark_changed();
        let heard = self.control.heard.clone();
        let (control, port) = (self.control.clone(), self.port);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    message = from.message() => match message {
                        Ok(Some(message)) => {
                            if let Some(v1::node_message::Body::Hello(hello)) = &message.body {
                                control.state.lock().unwrap().hellos.push((port, hello.second));
                            }
                            drop(heard.send(message).await);
                        }
                        _ => return,
                    },
                    changed = says.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let messages = says.borrow_and_update().clone();
                        for message in messages {
                            if to.send(Ok(message)).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Signers are not shared between tests; this one is the authority again.
pub fn authority_of(world: &World) -> Signer {
    Signer::from_seed(&world.authority.seed())
}
