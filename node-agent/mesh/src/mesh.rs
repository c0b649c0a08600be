//! The handle to a running mesh.
//!
//! Owns what can be asked of a mesh. The work is done by its tasks.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rap_link::{Answer, Ledger};
use rap_runtime::tls::{CertificateCell, TrustStore, link_server};
use rap_runtime::{Clock, TaskGroup};
use rap_types::{ChannelClass, NodeId, Reason};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};

use crate::command::Command;
use crate::config::MeshConfig;
use crate::fabric::Fabric;
use crate::link_peers::{LinkPeers, Peers};
use crate::registry::Registry;
use crate::relay_rows::RelayRows;
use crate::shared::Shared;
use crate::status::{LinkStatus, MeshEvent};
use crate::{accept, dial, fabric, renew, rows, socket};

/// All links of one membership. Clones refer to the same mesh. It runs until its task group is cancelled.
/// The links of the mesh then say goodbye and close.
#[derive(Debug, Clone)]
pub struct Mesh {
    pub(crate) shared: Arc<Shared>,
    address: SocketAddr,
}

impl Mesh {
    /// Binds the socket and starts to accept. No link is made before [`Self::identify`] and
    /// [`Self::apply`] were called. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or TLS refuses its configuration.
    pub fn start(config: MeshConfig, tasks: TaskGroup) -> io::Result<Self> {
        let listener = socket::listen(config.listen)?;
        let address = listener.local_addr()?;
        let (certificate, trust) = (CertificateCell::new(), TrustStore::new());
        let server = link_server(&certificate, &trust, config.time.clone()).map_err(io::Error::other)?;
        let (events, _) = broadcast::channel(config.event_queue.max(1));
        let ledger = Ledger::new(config.queued_max, config.queued_per_neighbour);
        let shared = Arc::new(Shared {
            registry: Registry::new(config.node, events),
            fabric: Fabric::new(config.node, config.path_queue, Clock::new().now().mono),
            relay_rows: RelayRows::default(),
            own: ledger.origin(config.node),
            ledger,
            config,
            clock: Clock::new(),
            certificate,
            trust,
            server,
            link_peers: watch::Sender::new(Arc::new(LinkPeers::default())),
            tasks,
            identified: Notify::new(),
            applying: Mutex::default(),
            next_id: AtomicU64::new(0),
        });
        shared.tasks.spawn_critical("link-accept", accept::accept(shared.clone(), listener));
        shared.tasks.spawn_critical("path-timer", fabric::keep_time(shared.clone()));
        shared.tasks.spawn_critical("relay-rows", rows::keep_saying(shared.clone()));
        shared.tasks.spawn_critical("link-renewal", renew::renew(shared.clone()));
        Ok(Self { shared, address })
    }

    /// Address where links are accepted, with the port that the kernel chose.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Uses this certificate (first of `chain`) and key for handshakes from now on. Live links that stand on another
    /// one are made anew, and lose no frame.
    ///
    /// # Errors
    /// The key does not belong to the certificate.
    pub fn identify(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), rustls::Error> {
        self.shared.certificate.set(chain, key)?;
        self.shared.identified.notify_one();
        Ok(())
    }

    /// Replaces the desired peers and the trust. Links with peers that are no longer desired or are revoked
    /// close at once. New peers are dialled.
    pub fn apply(&self, peers: Peers) {
        let shared = &self.shared;
        let Peers { peers, trust, newest_head, probe_interval, former } = peers;
        let link_peers = Arc::new(LinkPeers { peers, newest_head, probe_interval, former });
        let parent = shared.tasks.token();
        let _one_at_a_time = shared.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let revoked = trust.revoked.clone();
        shared.trust.replace(shared.config.cluster, trust);
        let added = shared.registry.retain(link_peers.peers.keys(), shared.now().mono, &parent);
        shared.link_peers.send_replace(link_peers);
        for new in added {
            shared.tasks.spawn("link-dial", dial::keep_linked(shared.clone(), new));
        }
        shared.revoke_paths(&revoked);
    }

    /// Status of every lane, by node id and lane.
    pub fn links(&self) -> Vec<LinkStatus> {
        self.shared.registry.statuses()
    }

    /// Heads that the hellos of live connections carried and that differ from [`Peers::newest_head`], by
    /// node id. Nobody verified them.
    pub fn peer_heads(&self) -> Vec<(NodeId, Bytes)> {
        let mut heads = self.shared.registry.heads();
        heads.retain(|(_, head)| self.shared.is_news(head));
        heads
    }

    /// Changes from now on. A reader that falls behind loses the oldest events and learns how many.
    pub fn events(&self) -> broadcast::Receiver<MeshEvent> {
        self.shared.registry.subscribe()
    }

    /// Inbound connections that were refused, frames that were refused or dropped by connections that ended, and
    /// installs and frames of paths that were refused or dropped, by reason.
    pub fn rejected(&self) -> BTreeMap<Reason, u64> {
        let mut rejected = self.shared.registry.rejected();
        for (reason, count) in self.shared.fabric.refused() {
            *rejected.entry(reason).or_default() += count;
        }
        rejected
    }

    /// Sends `count` probes one after the other and returns their answers. Stops early when the link ends.
    ///
    /// # Errors
    /// The reason why there is no link, if no probe was answered.
    pub async fn probe(&self, peer: NodeId, count: u32) -> Result<Vec<Answer>, Reason> {
        let mut answers = Vec::new();
        for _ in 0..count {
            match self.ask(peer, Command::Probe).await {
                Ok(answer) => answers.push(answer),
                Err(reason) if answers.is_empty() => return Err(reason),
                Err(_) => break,
            }
        }
        Ok(answers)
    }

    /// Sends `payload` (at most [`rap_link::ECHO_MAX`] bytes) in a frame of `class` and returns the round
    /// trip: the delay that frames of this class have now.
    ///
    /// # Errors
    /// The reason why there is no link, or why there was no answer; `link.queue_full` at once if the queue of
    /// the class is full.
    pub async fn echo(
        &self,
        peer: NodeId,
        class: ChannelClass,
        payload: impl Into<Bytes>,
    ) -> Result<Duration, Reason> {
        let payload = payload.into();
        match self.ask(peer, |reply| Command::Echo(class, payload.clone(), reply)).await? {
            Answer::RoundTrip(rtt) => Ok(rtt),
            Answer::Failed(reason) => Err(reason),
        }
    }

    /// Asks lane A. A question that ended with a connection which another one replaced is asked there once more.
    async fn ask(
        &self,
        peer: NodeId,
        command: impl Fn(oneshot::Sender<Answer>) -> Command,
    ) -> Result<Answer, Reason> {
        let commands = self.shared.registry.commands(peer)?;
        let answer = self.ask_over(&commands, &command).await;
        if matches!(answer, Ok(Answer::RoundTrip(_))) {
            return answer;
        }
        match self.shared.registry.commands(peer) {
            Ok(newer) if !newer.same_channel(&commands) => self.ask_over(&newer, &command).await,
            Ok(_) | Err(_) => answer,
        }
    }

    async fn ask_over(
        &self,
        commands: &mpsc::Sender<Command>,
        command: impl Fn(oneshot::Sender<Answer>) -> Command,
    ) -> Result<Answer, Reason> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            commands.send(command(reply)).await.map_err(|_| Reason::LinkClosed)?;
            answer.await.map_err(|_| Reason::LinkClosed)
        };
        // The session answers within its own deadline. The factor allows for a task that is busy.
        let deadline = self.shared.config.timing.answer * 2;
        tokio::time::timeout(deadline, asked).await.unwrap_or(Err(Reason::ProbeTimeout))
    }
}
