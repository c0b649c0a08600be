//! State shared by the tasks of one mesh, and state of one connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rap_link::{
    Direction, Input, Lane, Ledger, Link, Local, Origin, PeerIdentity, SessionState, Side, Timing,
};
use rap_runtime::tls::{CertificateCell, ProvenNode, TrustStore, fingerprint, reason_of};
use rap_runtime::{Clock, TaskGroup};
use rap_types::{Digest, Mono, NodeId, Now, Reason};
use rustls::ServerConfig;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::config::MeshConfig;
use crate::fabric::Fabric;
use crate::link_peers::{Dial, LinkPeers, certificate_deadline};
use crate::registry::Registry;
use crate::relay_rows::RelayRows;
use crate::status::LinkStatus;

/// State of one mesh.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: MeshConfig,
    pub(crate) clock: Clock,
    pub(crate) certificate: CertificateCell,
    pub(crate) trust: TrustStore,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) link_peers: watch::Sender<Arc<LinkPeers>>,
    pub(crate) registry: Registry,
    pub(crate) tasks: TaskGroup,
    /// Told when the own certificate is set.
    pub(crate) identified: Notify,
    /// Held while desired peers are replaced.
    pub(crate) applying: Mutex<()>,
    pub(crate) next_id: AtomicU64,
    pub(crate) fabric: Fabric,
    pub(crate) relay_rows: RelayRows,
    /// What waits to be sent on.
    pub(crate) ledger: Ledger,
    /// What this node itself sends on paths.
    pub(crate) own: Origin,
}

/// One connection from its first byte to its last.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: u64,
    pub(crate) link: Link,
    pub(crate) direction: Direction,
    /// Set at the start if this node dialled, else by the hello of the peer.
    pub(crate) lane: Option<Lane>,
    pub(crate) remote: Option<SocketAddr>,
    /// The node that was dialled, or that proved its identity.
    pub(crate) peer: Option<NodeId>,
    pub(crate) proven: Option<Proven>,
    pub(crate) established_at: Option<Mono>,
    /// Congestion control of a lane that carries bulk.
    pub(crate) congestion: Option<String>,
    /// Authority of the own leaf when the handshake began.
    pub(crate) own_authority: Option<Digest>,
    /// Fingerprint of that leaf.
    pub(crate) own_leaf: Option<Digest>,
    reported: SessionState,
    /// Cancels the opening of the connection.
    pub(crate) stop: CancellationToken,
}

/// The certificate of the peer, and until when it is valid on the boot clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proven {
    pub(crate) node: ProvenNode,
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

    /// True for a peer that this node does not want a link with.
    pub(crate) fn is_attachment(&self, peer: NodeId) -> bool {
        self.link_peers.borrow().peers.get(&peer).is_some_and(|peer| peer.dial == Dial::OnDemand)
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
        let own_authority = shared.certificate.authority();
        let own_leaf = shared.certificate.leaf().as_ref().map(fingerprint);
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
            congestion: None,
            own_authority,
            own_leaf,
            reported,
            stop,
        };
        connection.report();
        connection
    }

    /// Passes an input to the session. The link counts inputs that do not fit its state.
    pub(crate) fn input(&mut self, input: Input) {
        let _counted = self.link.handle(input, self.shared.now());
        self.report();
    }

    /// Waits for one step of the opening, until the deadline of the session. `None`: the session is closed.
    pub(crate) async fn step<T, E>(
        &mut self,
        step: impl Future<Output = Result<T, E>>,
        reason: impl FnOnce(&E) -> Reason,
    ) -> Option<T> {
        tokio::pin!(step);
        while let Some(due) = self.link.poll_timeout() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => self.input(Input::DrainAsked(self.why_stopped())),
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

    /// An opening is stopped with the mesh or the peer; an inbound one also when its place goes to another source.
    pub(crate) fn why_stopped(&self) -> Reason {
        let ends = self.direction == Direction::Outbound || self.shared.tasks.token().is_cancelled();
        if ends { Reason::LinkDrained } else { Reason::LinkBudget }
    }

    /// Takes the certificate that the TLS handshake proved: tells the session the identity and the permit.
    pub(crate) fn proved(&mut self, node: ProvenNode) {
        let now = self.shared.now();
        let proven = Proven { node, until: certificate_deadline(&node, now) };
        self.proven = Some(proven);
        self.peer = Some(node.identity.node);
        let peers = self.shared.link_peers.borrow().clone();
        let permit = peers.permit(&self.shared.trust, &node, proven.until);
        let identity = PeerIdentity { cluster: node.identity.cluster, node: node.identity.node };
        self.input(Input::Authenticated { peer: identity, permit });
    }

    /// Publishes the status once peer and lane are known. A connection that closes before its lane is known
    /// is published as lane A.
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
            congestion: self.congestion.clone(),
        };
        let left = self.established_at.is_some() && self.reported != state;
        self.reported = state;
        self.shared.registry.report(self.id, status, left);
    }

    /// Adds to the counters of the mesh, after the end: the reason if the connection was refused, else what it
    /// refused and dropped.
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

/// Sleeps until `due`, at most 1 s: tokio's timers stand still while the host is suspended and the boot
/// clock does not, so the caller must look at its deadline again soon after the host resumes.
///
/// Returns at once if `due` has passed. A sleep of length zero waits for the next tick of the timer, and in
/// a `select!` whose other branches are always ready that tick never comes.
pub(crate) async fn until(due: Mono, now: Now) {
    let wait = due.since(now.mono).min(LONGEST_SLEEP);
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

/// Reason code of a failed handshake or read.
pub(crate) fn reason_of_io(error: &std::io::Error) -> Reason {
    error.get_ref().and_then(|inner| reason_of(inner)).unwrap_or(Reason::LinkClosed)
}

const LONGEST_SLEEP: Duration = Duration::from_secs(1);
