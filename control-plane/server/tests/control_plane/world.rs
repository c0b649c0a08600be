//! A control plane on loopback with a database of its own, and an operator who is logged in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rap_contract::{
    EXPORTER_LABEL, KeyFile, LOGIN_PROOF, Signer, VerifiedBootstrap, VerifiedSnapshot, sign_possession,
};
use rap_control_plane::commands::init;
use rap_control_plane::commands::init::Made;
use rap_control_plane::config::raw::Raw;
use rap_control_plane::config::settings::Config;
use rap_control_plane::database::opened::OpenDatabase;
use rap_control_plane::start;
use rap_control_plane::start::Running;

use rap_rpc::Refusal;
use rap_rpc::v1::admin_client::AdminClient;
use rap_rpc::v1::authority_client::AuthorityClient;
use rap_rpc::v1::enrollment_client::EnrollmentClient;
use rap_rpc::v1::membership_client::MembershipClient;
use rap_runtime::{Clock, tls};
use rap_store::testing::TestDatabase;
use rap_types::{Digest, Reason};
use rap_wire::v1;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

/// A running control plane and what tests need to reach it.
pub struct World {
    pub running: Running,
    pub owner: Signer,
    pub pin: Digest,
    pub made: Made,
    _directory: tempfile::TempDir,
    /// Keeps a file that the configuration names.
    pub root_file: Option<tempfile::NamedTempFile>,
    pub database: Option<TestDatabase>,
    pub data_dir: PathBuf,
    session: Mutex<Option<String>>,
}

/// A world whose control plane was stopped.
pub struct Stopped {
    owner: Signer,
    pin: Digest,
    made: Made,
    _directory: tempfile::TempDir,
    root_file: Option<tempfile::NamedTempFile>,
    database: Option<TestDatabase>,
    data_dir: PathBuf,
}

impl Stopped {
    /// The same world, reached through this control plane; nobody is logged in.
    pub fn served_by(self, running: Running) -> World {
        let Self { owner, pin, made, _directory, root_file, database, data_dir } = self;
        let session = Mutex::default();
        World { running, owner, pin, made, _directory, root_file, database, data_dir, session }
    }
}

/// A connection without a client certificate.
pub struct Line {
    pub channel: Channel,
    pub exporter: [u8; 32],
}

static SOURCES: AtomicU32 = AtomicU32::new(0);

/// A loopback address nobody used yet: limits count per source.
pub fn source() -> IpAddr {
    let number = SOURCES.fetch_add(1, Ordering::Relaxed) + 1;
    IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + number))
}

impl World {
    /// A development installation with an operator session.
    pub async fn dev() -> Self {
        Self::dev_with(|_| ()).await
    }

    /// The same with other options.
    pub async fn dev_with(change: impl FnOnce(&mut Raw)) -> Self {
        let world = Self::start("dev", None, change).await;
        world.login().await.unwrap();
        world
    }

    /// A strict installation that waits for its activation.
    pub async fn strict(root_key: &Path) -> Self {
        Self::start("strict", Some(root_key), |_| ()).await
    }

    /// The same with a PostgreSQL of its own.
    pub async fn strict_embedded(root_key: &Path) -> Self {
        Self::start_on(None, "strict", Some(root_key), |_| ()).await
    }

    /// A development installation that runs a PostgreSQL of its own.
    pub async fn embedded() -> Self {
        Self::embedded_with(|_| ()).await
    }

    /// The same with other options.
    pub async fn embedded_with(change: impl FnOnce(&mut Raw)) -> Self {
        let world = Self::start_on(None, "dev", None, change).await;
        world.login().await.unwrap();
        world
    }

    async fn start(mode: &str, root_key: Option<&Path>, change: impl FnOnce(&mut Raw)) -> Self {
        Self::start_on(Some(TestDatabase::migrated().await), mode, root_key, change).await
    }

    async fn start_on(
        database: Option<TestDatabase>,
        mode: &str,
        root_key: Option<&Path>,
        change: impl FnOnce(&mut Raw),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The account of a private PostgreSQL passes through.
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let mut raw = Raw {
            data_dir: Some(directory.path().join("data")),
            listen: Some("127.0.0.1:0".into()),
            control_urls: Some(vec!["https://127.0.0.1:8443".into()]),
            authority_mode: Some(mode.into()),
            metrics: Some("off".into()),
            loopback_endpoints: Some(true),
            root_key: root_key.map(Into::into),
            ..Raw::default()
        };
        change(&mut raw);
        let config = Config::resolve(&raw).unwrap();
        let data_dir = config.data_dir.clone();
        let data = init::prepare(&config).unwrap();
        let opened = match &database {
            Some(database) => OpenDatabase { target: database.target().clone(), embedded: None },
            None => OpenDatabase::open(&config).await.unwrap(),
        };
        let made = init::init(&config, &data, &opened, directory.path()).await.unwrap();
        let running = start::start(config, opened).await.unwrap();
        let pin = running.replica.keys.installation.facts.tls_ca_pin;
        let owner = match &made.owner_key {
            Some(path) => {
                let file = KeyFile::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
                file.unprotected().unwrap().unwrap()
            }
            None => Signer::generate(&mut rand::rng()),
        };
        Self {
            running,
            owner,
            pin,
            made,
            _directory: directory,
            root_file: None,
            database,
            data_dir,
            session: Mutex::default(),
        }
    }

    /// A second control plane on the same database and data directory.
    pub async fn replica(&self) -> Running {
        let config = self.running.replica.config.as_ref().clone();
        let target = self.database.as_ref().unwrap().target().clone();
        start::start(config, OpenDatabase { target, embedded: None }).await.unwrap()
    }

    /// The same world, reached through another replica.
    pub fn through(&mut self, replica: Running) -> Running {
        std::mem::replace(&mut self.running, replica)
    }

    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// A fresh connection from a fresh source.
    pub async fn line(&self) -> Line {
        self.line_from(source()).await
    }

    /// The same to another replica.
    pub async fn line_to(&self, address: SocketAddr) -> Line {
        self.connect(source(), address).await
    }

    pub async fn line_from(&self, source: IpAddr) -> Line {
        self.connect(source, self.address()).await
    }

    async fn connect(&self, source: IpAddr, address: SocketAddr) -> Line {
        let config = tls::operator_client(tls::Pins::one(self.pin), Arc::new(Clock::new())).unwrap();
        let stream = tls_stream(address, source, config).await.unwrap();
        let exporter = tls::exporter(stream.get_ref().1, EXPORTER_LABEL).unwrap();
        Line { channel: channel(stream).await, exporter }
    }

    pub async fn enrollment(&self) -> (EnrollmentClient<Channel>, [u8; 32]) {
        let line = self.line().await;
        (EnrollmentClient::new(line.channel), line.exporter)
    }

    /// An operator's client; requests are made with [`Self::request`].
    pub async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.line().await.channel).max_decoding_message_size(64 << 20)
    }

    /// An operator's client for the end of memberships.
    pub async fn membership(&self) -> MembershipClient<Channel> {
        MembershipClient::new(self.line().await.channel)
    }

    /// Revokes a node of cluster `prod`.
    pub async fn revoke(&self, node: &str, evict: bool) -> Result<v1::NodeRevokeAnswer, Status> {
        let request =
            v1::NodeRevokeRequest { cluster: "prod".into(), node: node.into(), evict, reason: "lost".into() };
        Ok(self.membership().await.node_revoke(self.request(request)).await?.into_inner())
    }

    /// The node with this name or id in cluster `prod`.
    pub async fn node(&self, node: &str) -> v1::Node {
        let request = v1::NodeRef { cluster: "prod".into(), node: node.into() };
        self.admin().await.node_show(self.request(request)).await.unwrap().into_inner()
    }

    /// The snapshot of a node of cluster `prod`, once the newest version is out.
    pub async fn snapshot(&self, of: &VerifiedBootstrap) -> VerifiedSnapshot {
        let cluster = self.running.replica.serving.clusters.named("prod").unwrap();
        let request = v1::ClusterRef { cluster: "prod".into() };
        let shown = self.admin().await.cluster_show(self.request(request)).await.unwrap().into_inner();
        let mut versions = cluster.feed.follow();
        let newest = versions
            .wait_for(|newest| newest.as_ref().is_some_and(|one| one.order.version.0 >= shown.version))
            .await
            .unwrap()
            .clone()
            .unwrap();
        let replica = &self.running.replica;
        let head =
            rap_control_plane::publish::head::open_head(&replica.keys, &cluster, &newest.head).unwrap();
        newest.snapshot(of.node, head).unwrap().unwrap()
    }

    /// An operator's client of the service of authorities.
    pub async fn authority(&self) -> AuthorityClient<Channel> {
        AuthorityClient::new(self.line().await.channel)
    }

    /// Logs the owner in.
    pub async fn login(&self) -> Result<v1::LoginAnswer, Refusal> {
        let line = self.line().await;
        let mut admin = AdminClient::new(line.channel);
        let challenge = admin.login_challenge(v1::LoginChallengeRequest {}).await?.into_inner();
        let signature = login_proof(&self.owner, &challenge, &line.exporter);
        let operator_key = self.owner.public().to_vec();
        let request = v1::LoginRequest { operator_key, nonce: challenge.nonce, signature };
        let answer = admin.login(request).await?.into_inner();
        *self.session.lock().unwrap() = Some(answer.session.clone());
        Ok(answer)
    }

    /// A message with the owner's session.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(session) = &*self.session.lock().unwrap() {
            request.metadata_mut().insert("authorization", format!("Bearer {session}").parse().unwrap());
        }
        request
    }

    /// Creates a cluster with quick timing.
    pub async fn cluster(&self, name: &str) -> v1::Cluster {
        let request = v1::ClusterCreateRequest {
            name: name.into(),
            fresh_for_ms: 20_000,
            refresh_every_ms: 5_000,
            ..Default::default()
        };
        self.admin().await.cluster_create(self.request(request)).await.unwrap().into_inner()
    }

    /// Creates a token and returns it in text form.
    pub async fn token(&self, cluster: &str, uses: u32, auto_approve: bool) -> v1::TokenCreateAnswer {
        let request = v1::TokenCreateRequest {
            cluster: cluster.into(),
            uses,
            auto_approve,
            ttl_ms: 3_600_000,
            ..Default::default()
        };
        self.admin().await.token_create(self.request(request)).await.unwrap().into_inner()
    }

    pub async fn stop(self) {
        self.running.stop().await;
    }

    /// Stops, and leaves the data directory for as long as the answer is held.
    pub async fn stop_and_keep(self) -> Stopped {
        self.running.stop().await;
        let Self { owner, pin, made, _directory, root_file, database, data_dir, .. } = self;
        Stopped { owner, pin, made, _directory, root_file, database, data_dir }
    }
}

pub fn login_proof(owner: &Signer, challenge: &v1::LoginChallengeAnswer, exporter: &[u8; 32]) -> Vec<u8> {
    let proof = v1::LoginProof {
        installation_id: challenge.installation_id.clone(),
        operator_key: owner.public().to_vec(),
        nonce: challenge.nonce.clone(),
        exporter: exporter.to_vec(),
    };
    sign_possession(LOGIN_PROOF, &proof, owner)
}

/// Connects from `source` and finishes the TLS handshake.
pub async fn tls_stream(
    address: SocketAddr,
    source: IpAddr,
    config: Arc<rustls::ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    tokio_rustls::TlsConnector::from(config).connect(tls::any_server_name(), stream).await
}

/// A gRPC channel over one connection; it cannot reconnect.
pub async fn channel(stream: TlsStream<TcpStream>) -> Channel {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("this connection is over"));
        async move { stream }
    });
    Endpoint::from_static("http://control-plane").connect_with_connector(connector).await.unwrap()
}

/// The reason a call was refused for.
pub fn reason(status: Status) -> Reason {
    Refusal::from(&status).reason
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    in_time(what, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Waits for it, and fails if it takes longer than anything should.
pub async fn in_time<T>(what: &str, waited: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), waited).await.expect(what)
}
