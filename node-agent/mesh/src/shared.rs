//! What every task of one mesh can reach, and the facts of one connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rap_link::{Direction, Input, Link, Local, SessionState, Side};
use rap_runtime::tls::{LeafSlot, NodeLeaf, TrustStore, reason_of};
use rap_runtime::{Clock, TaskGroup};
use rap_types::{Mono, NodeId, Now, Reason};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::MeshConfig;
use crate::registry::Registry;
use crate::status::LinkStatus;
use crate::table::{Table, leaf_deadline};

/// State of one mesh.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: MeshConfig,
    pub(crate) clock: Clock,
    pub(crate) leaf: LeafSlot,
    pub(crate) trust: TrustStore,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) table: watch::Sender<Arc<Table>>,
    pub(crate) registry: Registry,
    pub(crate) tasks: TaskGroup,
    /// Held while a table is applied.
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
    pub(crate) remote: Option<SocketAddr>,
    /// Whom we dialled, or who proved itself.
    pub(crate) peer: Option<NodeId>,
    pub(crate) proven: Option<Proven>,
    pub(crate) established_at: Option<Mono>,
    reported: SessionState,
    /// Ends waiting of a connection that is not established yet.
    pub(crate) stop: CancellationToken,
}

/// The leaf a peer proved, and until when it is valid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proven {
    pub(crate) leaf: NodeLeaf,
    pub(crate) until: Mono,
}

impl Shared {
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    fn local(&self) -> Local {
        Local {
            node: self.config.node,
            cluster: self.config.cluster,
            features: self.config.features.clone(),
            newest_head: self.table.borrow().newest_head.clone(),
        }
    }
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, side: Side, stop: CancellationToken) -> Self {
        let link = Link::new(shared.local(), side, shared.config.timing.clone(), shared.now());
        let peer = match side {
            Side::Dialer { expected, .. } => Some(expected),
            Side::Acceptor => None,
        };
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let direction = side.direction();
        let reported = link.state();
        let mut connection = Self {
            shared,
            id,
            link,
            direction,
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

    /// The TLS handshake named this leaf: asks the table and tells the session.
    pub(crate) fn proved(&mut self, leaf: NodeLeaf) {
        let now = self.shared.now();
        let proven = Proven { leaf, until: leaf_deadline(&leaf, now) };
        self.proven = Some(proven);
        self.peer = Some(leaf.identity.node);
        let table = self.shared.table.borrow().clone();
        let permit = table.permit(&self.shared.trust, &leaf, proven.until);
        let identity = rap_link::PeerIdentity { cluster: leaf.identity.cluster, node: leaf.identity.node };
        self.input(Input::Authenticated { peer: identity, permit });
    }

    /// Publishes the present state, for a peer that is known.
    pub(crate) fn report(&mut self) {
        let Some(peer) = self.peer else { return };
        let status = LinkStatus {
            peer,
            state: self.link.state(),
            reason: self.link.reason(),
            since: self.link.since(),
            direction: Some(self.direction),
            remote: self.remote,
            rtt: self.link.rtt(),
            counters: self.link.counters().clone(),
        };
        let left = self.established_at.is_some() && self.reported != status.state;
        self.reported = status.state;
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
pub(crate) async fn until(due: Mono, now: Now) {
    tokio::time::sleep(due.since(now.mono).min(LONGEST_SLEEP)).await;
}

/// The code of a failed handshake or read.
pub(crate) fn reason_of_io(error: &std::io::Error) -> Reason {
    error.get_ref().and_then(|inner| reason_of(inner)).unwrap_or(Reason::LinkClosed)
}

const LONGEST_SLEEP: Duration = Duration::from_secs(1);
