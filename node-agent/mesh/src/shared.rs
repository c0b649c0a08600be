//! What every task of one mesh can reach, and the facts of one connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rap_link::{Direction, Input, Lane, Link, Local, PeerIdentity, SessionState, Side, Timing};
use rap_runtime::tls::{LeafSlot, NodeLeaf, TrustStore, reason_of};
use rap_runtime::{Clock, TaskGroup};
use rap_types::{Mono, NodeId, Now, Reason};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::MeshConfig;
use crate::link_peers::{LinkPeers, certificate_deadline};
use crate::registry::Registry;
use crate::status::LinkStatus;

/// State of one mesh.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: MeshConfig,
    pub(crate) clock: Clock,
    pub(crate) certificate: LeafSlot,
    pub(crate) trust: TrustStore,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) link_peers: watch::Sender<Arc<LinkPeers>>,
    pub(crate) registry: Registry,
    pub(crate) tasks: TaskGroup,
    /// Held while peers are applied.
    pub(crate) applying: Mutex<()>,
    pub(crate) next_id: AtomicU64,
}

/// One connection from its first byte to its last.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: u64,
    pub(crate) link: Link,
    pub(crate) direction: Direction,
    /// Known from the start where this node dialled, else from the peer's hello.
    pub(crate) lane: Option<Lane>,
    pub(crate) remote: Option<SocketAddr>,
    /// Whom we dialled, or who proved itself.
    pub(crate) peer: Option<NodeId>,
    pub(crate) proven: Option<Proven>,
    pub(crate) established_at: Option<Mono>,
    reported: SessionState,
    /// Ends waiting of a connection that is not established yet.
    pub(crate) stop: CancellationToken,
}

/// The certificate that a peer proved, and until when it is valid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proven {
    pub(crate) certificate: NodeLeaf,
    pub(crate) until: Mono,
}

impl Shared {
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Timers of sessions: those of the settings, with the probe interval of the desired peers.
    pub(crate) fn timing(&self) -> Timing {
        let timing = self.config.timing.clone();
        match self.link_peers.borrow().probe_interval {
            Some(interval) => timing.with_probe_interval(interval),
            None => timing,
        }
    }

    /// True for a head that this node does not send in its own hello.
    pub(crate) fn is_news(&self, head: &[u8]) -> bool {
        !head.is_empty() && head != self.link_peers.borrow().newest_head
    }

    fn local(&self) -> Local {
        Local {
            node: self.config.node,
            cluster: self.config.cluster,
            features: self.config.features.clone(),
            newest_head: self.link_peers.borrow().newest_head.clone(),
        }
    }
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, side: Side, stop: CancellationToken) -> Self {
        let link = Link::new(shared.local(), side, shared.timing(), shared.now());
        let (peer, lane) = match side {
            Side::Dialer { expected, lane, .. } => (Some(expected), Some(lane)),
            Side::Acceptor => (None, None),
        };
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let direction = side.direction();
        let reported = link.state();
        let mut connection = Self {
            shared,
            id,
            link,
            direction,
            lane,
            remote: None,
            peer,
            proven: None,
            established_at: None,
            reported,
            stop,
        };
        connection.report();
        connection
    }

    /// Hands an input to the session; one that comes too late for its state is counted there.
    pub(crate) fn input(&mut self, input: Input) {
        let _counted = self.link.handle(input, self.shared.now());
        self.report();
    }

    /// Waits for a step of the opening, within the session's deadline. `None`: the session is closed.
    pub(crate) async fn step<T, E>(
        &mut self,
        step: impl Future<Output = Result<T, E>>,
        reason: impl FnOnce(&E) -> Reason,
    ) -> Option<T> {
        tokio::pin!(step);
        while let Some(due) = self.link.poll_timeout() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => self.input(Input::DrainAsked(Reason::LinkDrained)),
                done = &mut step => match done {
                    Ok(done) => return Some(done),
                    Err(error) => self.input(Input::Broken(reason(&error))),
                },
                () = until(due, self.shared.now()) => {
                    self.link.handle_timeout(self.shared.now());
                    self.report();
                    continue;
                }
            }
            return None;
        }
        None
    }

    /// The TLS handshake proved this certificate: tells the session whose it is and what is permitted.
    pub(crate) fn proved(&mut self, certificate: NodeLeaf) {
        let now = self.shared.now();
        let proven = Proven { certificate, until: certificate_deadline(&certificate, now) };
        self.proven = Some(proven);
        self.peer = Some(certificate.identity.node);
        let peers = self.shared.link_peers.borrow().clone();
        let permit = peers.permit(&self.shared.trust, &certificate, proven.until);
        let identity =
            PeerIdentity { cluster: certificate.identity.cluster, node: certificate.identity.node };
        self.input(Input::Authenticated { peer: identity, permit });
    }

    /// Publishes the present state, for a peer and a lane that are known. Of a connection that ends before
    /// its lane is known, the end is published as that of lane A.
    pub(crate) fn report(&mut self) {
        let Some(peer) = self.peer else { return };
        let state = self.link.state();
        let Some(lane) = self.lane.or((state == SessionState::Closed).then_some(Lane::A)) else { return };
        let status = LinkStatus {
            peer,
            lane,
            state,
            reason: self.link.reason(),
            since: self.link.since(),
            direction: Some(self.direction),
            remote: self.remote,
            rtt: self.link.rtt(),
            measured: self.link.measured(),
            counters: self.link.counters().clone(),
        };
        let left = self.established_at.is_some() && self.reported != state;
        self.reported = state;
        self.shared.registry.report(self.id, status, left);
    }

    /// Counts what the connection refused and dropped, or why it was refused itself.
    pub(crate) fn account(&self) {
        let refused = self.established_at.is_none() && self.direction == Direction::Inbound;
        match self.link.reason() {
            Some(reason) if refused => self.shared.registry.reject(reason, 1),
            Some(_) | None => {
                let counters = self.link.counters();
                for (reason, count) in counters.rejected.iter().chain(&counters.dropped) {
                    self.shared.registry.reject(*reason, *count);
                }
            }
        }
        debug_assert_eq!(self.link.state(), SessionState::Closed);
    }
}

/// Sleeps until `due`, but never long: the runtime's timers stand still while the host is suspended
/// and BOOTTIME does not, so a deadline is looked at again soon after the host wakes.
///
/// An instant that has come is seen at once: a sleep of no length waits for the timer's next tick, and
/// a task whose other branches are always ready would never get there.
pub(crate) async fn until(due: Mono, now: Now) {
    let wait = due.since(now.mono).min(LONGEST_SLEEP);
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

/// The code of a failed handshake or read.
pub(crate) fn reason_of_io(error: &std::io::Error) -> Reason {
    error.get_ref().and_then(|inner| reason_of(inner)).unwrap_or(Reason::LinkClosed)
}

const LONGEST_SLEEP: Duration = Duration::from_secs(1);
