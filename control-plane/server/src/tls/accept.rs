//! Accepts connections, finishes their handshakes under a budget and a deadline, sorts them by ALPN.
//!
//! Owns the accept loop, which ends only when it is told to. Refuses to own requests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rap_runtime::exit::reason_of;
use rap_runtime::handshake_budget::HandshakeBudget;
use rap_runtime::seldom::Seldom;
use rap_runtime::service::{Beat, TURN};
use rap_runtime::source_budget::SourceBudget;
use rap_runtime::tls::{CertificateCell, Offer, TrustStore};
use rap_runtime::{Clock, TaskGroup, tls};
use rap_types::Reason;
use rustls::ServerConfig;
use rustls::server::Acceptor as HelloReader;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::LazyConfigAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected as _;

use crate::tls::channel::{Channel, ChannelKind, Connection};
use crate::tls::listeners::Listeners;
use crate::watch::metrics::Metrics;

/// Bounds of the listener.
#[derive(Debug, Clone)]
pub struct AcceptSettings {
    /// Handshakes in flight in all.
    pub handshakes_total: u32,
    /// Handshakes in flight per source.
    pub handshakes_per_source: u32,
    /// Deadline of a handshake.
    pub handshake_timeout: Duration,
    /// Open connections in all.
    pub connections: u32,
    /// Open connections per source.
    pub connections_per_source: u32,
}

/// Finished connections of one kind, for a gRPC server to serve.
pub type Incoming = ReceiverStream<io::Result<Connection>>;

/// The listening side.
pub struct Acceptor {
    listeners: Listeners,
    shared: Arc<Shared>,
    tasks: TaskGroup,
}

struct Shared {
    operator_config: Arc<ServerConfig>,
    node_config: Arc<ServerConfig>,
    trust: TrustStore,
    handshakes: HandshakeBudget,
    clock: Clock,
    timeout: Duration,
    places: SourceBudget,
    operators: mpsc::Sender<io::Result<Connection>>,
    nodes: mpsc::Sender<io::Result<Connection>>,
    metrics: Arc<Metrics>,
}

impl Acceptor {
    /// Binds nothing: takes bound listeners. Returns the acceptor and the connections of operators
    /// and of nodes.
    pub fn new(
        listeners: Listeners,
        leaf: &CertificateCell,
        trust: &TrustStore,
        settings: &AcceptSettings,
        metrics: Arc<Metrics>,
        tasks: TaskGroup,
    ) -> Result<(Self, Incoming, Incoming), rustls::Error> {
        let clock = Arc::new(Clock::new());
        let (operators, operator_incoming) = mpsc::channel(WAITING);
        let (nodes, node_incoming) = mpsc::channel(WAITING);
        let shared = Shared {
            operator_config: tls::operator_server(leaf, clock.clone())?,
            node_config: tls::node_server(leaf, trust, clock)?,
            trust: trust.clone(),
            handshakes: HandshakeBudget::new(settings.handshakes_total, settings.handshakes_per_source),
            clock: Clock::new(),
            timeout: settings.handshake_timeout,
            places: SourceBudget::new(settings.connections, settings.connections_per_source),
            operators,
            nodes,
            metrics,
        };
        let acceptor = Self { listeners, shared: Arc::new(shared), tasks };
        Ok((acceptor, ReceiverStream::new(operator_incoming), ReceiverStream::new(node_incoming)))
    }

    /// Accepts until the group is cancelled. An error of one accept never ends the loop.
    pub async fn run(self, beat: Beat) {
        let shutdown = self.tasks.token();
        let mut failures = Seldom::new(SAY_EVERY);
        loop {
            beat.turned();
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = self.listeners.accept() => accepted,
                () = tokio::time::sleep(TURN) => continue,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => {
                    if let Some(times) = failures.happened(self.shared.clock.now().mono) {
                        tracing::warn!(%error, times, "accept failed");
                    }
                    // Out of descriptors: the next accept would fail at once again.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let (end, now) = (self.tasks.token().child_token(), self.shared.clock.now().mono);
        let Some(place) = self.shared.handshakes.take(peer.ip(), now, end.clone()) else {
            self.shared.metrics.rejected(Reason::RateLimited);
            tracing::debug!(%peer, "handshake budget used up");
            return;
        };
        let shared = self.shared.clone();
        self.tasks.spawn("handshake", async move {
            let finished = tokio::select! {
                () = end.cancelled() => {
                    // Of this process, or only of this place: another source got it.
                    shared.metrics.rejected(Reason::RateLimited);
                    tracing::debug!(%peer, "handshake ended under pressure");
                    return;
                }
                finished = tokio::time::timeout(shared.timeout, shared.handshake(stream, peer)) => finished,
            };
            match finished {
                Ok(Ok((connection, destination))) => {
                    match connection.connect_info().kind() {
                        ChannelKind::Node(_) => place.proved(shared.clock.now().mono),
                        ChannelKind::Operator => drop(place),
                    }
                    // The receiver is gone only when the server stops.
                    let _ = destination.send(Ok(connection)).await;
                }
                Ok(Err(error)) => {
                    // An end that just went away was not refused.
                    if let Some(reason) = reason_of(&error) {
                        shared.metrics.rejected(reason);
                    }
                    tracing::debug!(%peer, %error, "handshake failed");
                }
                Err(_) => {
                    shared.metrics.rejected(Reason::RequestTimeout);
                    tracing::debug!(%peer, "handshake deadline passed");
                }
            }
        });
    }
}

impl Shared {
    async fn handshake(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> io::Result<(Connection, mpsc::Sender<io::Result<Connection>>)> {
        let place = self.places.take(peer.ip()).ok_or_else(|| {
            let fault = rap_runtime::Fault::new(Reason::RateLimited, "too many connections");
            io::Error::other(fault)
        })?;
        stream.set_nodelay(true)?;
        let hello = LazyConfigAcceptor::new(HelloReader::default(), stream).await?;
        let offer = {
            let client_hello = hello.client_hello();
            Offer::read(client_hello.alpn().into_iter().flatten()).map_err(io::Error::other)?
        };
        let (config, protocol) = match offer {
            Offer::Operator => (self.operator_config.clone(), tls::ALPN_OPERATOR),
            Offer::Node => (self.node_config.clone(), tls::ALPN_NODE),
        };
        let stream = hello.into_stream(config).await?;
        let (_, session) = stream.get_ref();
        tls::require_alpn(session, protocol).map_err(io::Error::other)?;
        let exporter = tls::exporter(session, rap_contract::EXPORTER_LABEL).map_err(io::Error::other)?;
        let (kind, destination) = match offer {
            Offer::Operator => (ChannelKind::Operator, &self.operators),
            Offer::Node => {
                (ChannelKind::Node(tls::peer(session, &self.trust).map_err(io::Error::other)?), &self.nodes)
            }
        };
        let channel = Channel::new(peer, kind, exporter);
        let readers = channel.readers().clone();
        let connection = Connection::new(stream, channel, place, self.timeout);
        Ok((connection.ending_stalled(readers, STALL), destination.clone()))
    }
}

/// An answer that makes no progress for so long ends its connection.
const STALL: Duration = Duration::from_secs(20);

const SAY_EVERY: Duration = Duration::from_secs(1);

const WAITING: usize = 64;

const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
