//! The loop of one membership: feeds inputs to the node's cores and carries their outputs out in order.
//!
//! Owns the queue and the order. Refuses to decide: `rap_node::Node` does.

use std::sync::Arc;
use std::time::Duration;

use rap_contract::{VerifiedSnapshot, encode_export};
use rap_node::{Input, Node, Output, RunPing, Table};
use rap_runtime::service::{Beat, TURN};
use rap_runtime::{Clock, Fault};
use rap_trust::{PersistId, Pools, Record, StoredGrants};
use rap_types::{Activity, Mono, NodeId, Reason, Wall};
use rap_wire::v1;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::control::{CertificateTask, Pause, Stream, TrustedTime, UplinkEvent};
use crate::dataplane::{DataplaneCommand, DataplaneEvent};
use crate::host::{HostHandle, OwnClaim};
use crate::membership::{GrantStore, Leaf, LeafStore, Persister};
use crate::rotation::Wanted;
use crate::status::{Contact, StatusFacts, grant_document, status_document};

/// What others ask of a membership.
pub enum Request {
    /// The status document.
    Status(oneshot::Sender<StatusAnswer>),
    /// The snapshot in use as an export file.
    Export(oneshot::Sender<Result<Vec<u8>, Fault>>),
    /// Tell the control plane that this node leaves.
    Leave(oneshot::Sender<Result<(), Fault>>),
    /// Apply a break-glass grant.
    BreakGlass {
        /// The grant's text form.
        text: String,
        /// Gets the grant as status shows it.
        reply: oneshot::Sender<Result<serde_json::Value, Fault>>,
    },
    /// Ping a peer by name or id.
    Ping {
        /// Name or id.
        peer: String,
        /// Probes per path.
        count: u32,
        /// Milliseconds between probes.
        interval_ms: u32,
        /// Gets the peer and the outcome.
        reply: oneshot::Sender<Result<(NodeId, v1::PingOutcome), Fault>>,
    },
}

/// A status document and whether it says degraded.
#[derive(Debug)]
pub struct StatusAnswer {
    /// Document of schema `rap.status.v1`.
    pub document: serde_json::Value,
    /// True if the membership is degraded.
    pub degraded: bool,
}

/// Where a driver hears from.
pub struct Ears {
    /// The uplink.
    pub uplink: mpsc::Receiver<UplinkEvent>,
    /// The data plane task.
    pub dataplane: mpsc::Receiver<DataplaneEvent>,
    /// New leaves.
    pub leaves: mpsc::Receiver<Leaf>,
    /// Why the last certificate request failed.
    pub certificate_failure: watch::Receiver<Option<Fault>>,
    /// Own addresses: (link, WireGuard).
    pub addresses: watch::Receiver<(Vec<String>, Vec<String>)>,
    /// The local API.
    pub requests: mpsc::Receiver<Request>,
}

/// Where a driver speaks to.
pub struct Mouths {
    /// The newest table, for the data plane task.
    pub tables: watch::Sender<Option<Arc<Table>>>,
    /// Requests to the data plane task.
    pub commands: mpsc::Sender<DataplaneCommand>,
    /// The leaf for TLS towards the control plane.
    pub leaf: rap_runtime::tls::LeafSlot,
    /// True once there is a leaf.
    pub leaf_ready: watch::Sender<bool>,
    /// Counts refusals of the leaf by the control plane.
    pub doubts: watch::Sender<u64>,
    /// The cluster's CA, for checking new leaves.
    pub authority: watch::Sender<Vec<u8>>,
    /// How to come back after a lost stream.
    pub pause: watch::Sender<Pause>,
    /// Trusted time for TLS.
    pub time: TrustedTime,
}

/// How old the keys are, and whom to tell when they are too old.
pub struct KeyAges {
    /// Who replaces them.
    pub host: HostHandle,
    /// Name of the membership.
    pub name: String,
    /// Since when the identity key is in use.
    pub identity_since: Wall,
    /// Since when the WireGuard key is in use.
    pub wireguard_since: Wall,
    /// New keys wait on disk for the control plane's word.
    pub unfinished: bool,
}

impl KeyAges {
    /// The keys that `policy` wants replaced at `now`.
    fn due(&self, policy: &v1::PolicyChunk, now: Wall) -> Wanted {
        let old = |since: Wall, most: u64| most > 0 && now.since(since) >= Duration::from_millis(most);
        Wanted {
            identity: old(self.identity_since, policy.identity_key_max_age_ms),
            wireguard: old(self.wireguard_since, policy.wireguard_key_max_age_ms),
        }
    }
}

/// Drives one membership.
pub struct Driver {
    /// Age of its keys.
    pub ages: KeyAges,
    /// The cores.
    pub node: Node,
    /// Its hand on the host's addresses.
    pub claim: OwnClaim,
    /// The disk.
    pub persister: Persister,
    /// Break-glass grants on disk; out while they are being written.
    pub grant_store: Option<GrantStore>,
    /// The leaf on disk; out while it is being written.
    pub leaf_store: Option<LeafStore>,
    /// Constant facts for status.
    pub facts: StatusFacts,
    /// Contact with control plane and data plane, for status.
    pub contact: Contact,
    /// Where it hears from.
    pub ears: Ears,
    /// Where it speaks to.
    pub mouths: Mouths,
    /// Clock.
    pub clock: Clock,
    /// Activation manifest of the membership, for exports.
    pub manifest: Vec<u8>,
    /// Ends of running pings.
    pub pings: mpsc::Sender<PingEnd>,
    /// Other half of `pings`.
    pub ping_ends: mpsc::Receiver<PingEnd>,
    /// The stream while one is open.
    pub stream: Option<Stream>,
    /// When the age of the keys was last looked at.
    pub judged: Option<Mono>,
    /// Proofs by the identity key.
    pub certificates: CertificateTask,
    /// Tasks of this membership.
    pub tasks: rap_runtime::TaskGroup,
    /// Its word to the service manager's watchdog.
    pub beat: Beat,
}

/// A ping for the control plane ended.
pub struct PingEnd([u8; 16], Result<v1::PingOutcome, Reason>);

impl Driver {
    /// Runs until cancelled, then closes the cache.
    ///
    /// # Errors
    /// A fault of the disk after which nothing on it can be relied on: the agent ends and starts over.
    pub async fn run(mut self, leaf: Option<Leaf>, cancel: CancellationToken) -> Result<(), Fault> {
        if let Some(leaf) = leaf {
            self.use_leaf(&leaf);
            self.contact.certificate = Some((leaf.not_before, leaf.not_after));
        }
        self.carry_out().await?;
        self.activated().await;
        loop {
            self.beat.turned();
            self.beat.say(self.in_short());
            let timeout = self.node.poll_timeout(self.clock.now());
            let due = timeout.map(|at| at.since(self.clock.now().mono).min(TURN));
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(event) = self.ears.uplink.recv() => self.uplink(event),
                Some(event) = self.ears.dataplane.recv() => self.dataplane(event),
                Some(leaf) = self.ears.leaves.recv() => self.leaf(leaf).await,
                Some(PingEnd(id, outcome)) = self.ping_ends.recv() => {
                    self.feed(Input::PingEnded(id, outcome));
                }
                Some(request) = self.ears.requests.recv() => self.request(request).await,
                Ok(()) = self.ears.addresses.changed() => {
                    let (link, wireguard) = self.ears.addresses.borrow_and_update().clone();
                    self.feed(Input::AddressesChanged(link, wireguard));
                }
                () = tokio::time::sleep(due.unwrap_or(TURN)) => self.feed(Input::TimedOut),
            }
            self.carry_out().await?;
            self.judge_keys();
        }
        self.persister.close().await;
        Ok(())
    }

    /// Keys are replaced while there is contact; new ones that wait for an answer at any time, at most
    /// once a minute.
    fn judge_keys(&mut self) {
        let now = self.clock.now().mono;
        if self.judged.is_some_and(|at| now < at.plus(JUDGE)) {
            return;
        }
        let Some(snapshot) = self.node.snapshot() else { return };
        let wall = self.node.acceptor().clock().wall(self.clock.now());
        let due = self.ages.due(&snapshot.contents().policy, wall);
        let connected = self.stream.is_some();
        self.judged = Some(now);
        if (due != Wanted::default() && connected) || self.ages.unfinished {
            self.ages.host.keys_are_old(&self.ages.name, due);
        }
    }

    /// For the service manager's status line.
    fn in_short(&self) -> String {
        let state = self.node.freshness_state(self.clock.now()).map_or("no snapshot", |state| state.as_str());
        let version = self.node.snapshot().map(|snapshot| snapshot.head().order.version);
        let control = if self.stream.is_some() { "connected" } else { "no control plane" };
        match version {
            Some(version) => format!("version {version}, {state}, {control}"),
            None => format!("{state}, {control}"),
        }
    }

    fn feed(&mut self, input: Input) {
        self.node.handle(input, self.clock.now());
    }

    fn uplink(&mut self, event: UplinkEvent) {
        let now = self.clock.now();
        match event {
            UplinkEvent::Opened(url, stream) => {
                self.stream = Some(stream);
                self.contact.dialled(url, now);
                self.feed(Input::StreamOpened);
            }
            UplinkEvent::Message(message) => {
                self.contact.heard(now);
                self.feed(Input::Control(message));
            }
            UplinkEvent::Doubted => self.mouths.doubts.send_modify(|doubts| *doubts += 1),
            UplinkEvent::Lost(url, fault) => {
                if matches!(fault.reason, Reason::NodeRevoked | Reason::CertificateInvalid) {
                    self.mouths.doubts.send_modify(|doubts| *doubts += 1);
                }
                if self.contact.lost(url, &fault) {
                    tracing::warn!(reason = %fault.reason, error = %fault, "no contact with the control plane");
                }
                self.stream = None;
                self.feed(Input::StreamClosed);
            }
        }
    }

    fn dataplane(&mut self, event: DataplaneEvent) {
        match event {
            DataplaneEvent::Up(facts) => {
                tracing::info!(pid = facts.hello.pid, adopted = facts.adopted, "data plane up");
                let applied = facts.hello.table_version;
                self.contact.dataplane_up(facts);
                self.feed(Input::DataplaneUp(applied));
            }
            DataplaneEvent::Down(fault) => {
                if self.contact.dataplane_down(&fault) {
                    tracing::warn!(reason = %fault.reason, error = %fault, "data plane down");
                }
                self.feed(Input::DataplaneDown);
            }
            DataplaneEvent::Applied(version) => self.feed(Input::TableApplied(version)),
            DataplaneEvent::Refused(fault) => {
                tracing::error!(reason = %fault.reason, error = %fault, "the data plane refused a table");
                self.feed(Input::TableRefused(fault.reason));
            }
            DataplaneEvent::Stats(stats) => self.feed(Input::StatsArrived(stats)),
        }
    }

    async fn leaf(&mut self, leaf: Leaf) {
        let Some(mut store) = self.leaf_store.take() else { return };
        let copy = leaf.clone();
        let written = tokio::task::spawn_blocking(move || {
            let written = store.store(copy);
            (store, written)
        });
        match written.await {
            Ok((store, written)) => {
                self.leaf_store = Some(store);
                if let Err(fault) = written {
                    // In use all the same: after a restart another is issued.
                    tracing::error!(reason = %fault.reason, error = %fault, "the certificate could not be stored");
                }
            }
            Err(_) => tracing::error!("the write of the certificate was cut off"),
        }
        self.use_leaf(&leaf);
        self.contact.certificate = Some((leaf.not_before, leaf.not_after));
        self.feed(Input::LeafIssued(leaf.into()));
    }

    /// Presents this leaf to the control plane from now on.
    fn use_leaf(&self, leaf: &Leaf) {
        let chain = vec![leaf.certificate.clone().into()];
        match leaf.private_key.to_vec().try_into() {
            Ok(key) => match self.mouths.leaf.set(chain, key) {
                Ok(()) => drop(self.mouths.leaf_ready.send_replace(true)),
                Err(error) => tracing::error!(%error, "the certificate cannot be used"),
            },
            Err(error) => tracing::error!(error, "the certificate's key cannot be used"),
        }
    }

    async fn request(&mut self, request: Request) {
        // Whoever asked may have stopped waiting: unsent answers are dropped.
        match request {
            Request::Status(reply) => drop(reply.send(self.status())),
            Request::Export(reply) => drop(reply.send(self.export())),
            Request::Leave(reply) => {
                let certificates = self.certificates.clone();
                self.tasks.spawn("leave", async move {
                    drop(reply.send(certificates.leave_anywhere().await));
                });
            }
            Request::BreakGlass { text, reply } => drop(reply.send(self.break_glass(&text).await)),
            Request::Ping { peer, count, interval_ms, reply } => {
                if let Err(reject) = self.node.permit(Activity::Probe, self.clock.now()) {
                    return drop(reply.send(Err(crate::fault::refused(reject))));
                }
                let Some(node) = self.node.peer(&peer, self.clock.now()) else {
                    let fault = Fault::new(Reason::NodeUnknown, format!("no peer `{peer}` in the snapshot"));
                    return drop(reply.send(Err(fault)));
                };
                let commands = self.mouths.commands.clone();
                self.tasks.spawn("ping", async move {
                    let outcome = ping(&commands, node, count, interval_ms).await;
                    drop(reply.send(outcome.map(|outcome| (node, outcome))));
                });
            }
        }
    }

    /// Verify, write, then use: a grant that is not on disk does not count.
    async fn break_glass(&mut self, text: &str) -> Result<serde_json::Value, Fault> {
        let admission = self.node.judge_grant(text, self.clock.now()).map_err(crate::fault::refused)?;
        let digest = admission.grant.digest();
        self.store_grants(admission.stored.clone()).await?;
        let (permit, signer) = (admission.grant.permit(), admission.grant.by().as_str());
        tracing::error!(alarm = true, %digest, permit, signer, reason = admission.grant.reason(), "break-glass grant applied");
        self.feed(Input::GrantStored(Box::new(admission)));
        let now = self.clock.now();
        let view = self.node.grants().find(|view| view.stored.digest == digest);
        view.map(|view| grant_document(&view, self.node.acceptor().clock().wall(now)))
            .ok_or_else(|| Fault::new(Reason::StateIo, "the grant is not held"))
    }

    async fn store_grants(&mut self, stored: StoredGrants) -> Result<(), Fault> {
        let busy = || Fault::new(Reason::StateIo, "the grants are not open");
        let mut store = self.grant_store.take().ok_or_else(busy)?;
        let (store, written) = tokio::task::spawn_blocking(move || {
            let written = store.store(stored);
            (store, written)
        })
        .await
        .map_err(|_| Fault::new(Reason::StateIo, "the write of the grants was cut off"))?;
        self.grant_store = Some(store);
        written
    }

    fn status(&self) -> StatusAnswer {
        let failure = self.ears.certificate_failure.borrow().clone();
        let cache = self.persister.cache_status();
        status_document(&self.facts, &self.node, &self.contact, &cache, failure.as_ref(), self.clock.now())
    }

    fn export(&self) -> Result<Vec<u8>, Fault> {
        let absent = || Fault::new(Reason::SnapshotAbsent, "no verified snapshot yet");
        let snapshot = self.node.snapshot().ok_or_else(absent)?;
        let records =
            self.node.acceptor().pinned().chain.envelopes_until(snapshot.head().order.incarnation.0);
        Ok(encode_export(&self.manifest, &records, snapshot))
    }

    /// Carries out what the cores want, in order. A write is waited for: nothing overtakes the disk.
    async fn carry_out(&mut self) -> Result<(), Fault> {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Persist(id, record) => self.persist(id, &record).await?,
                Output::Publish(table) => drop(self.mouths.tables.send_replace(Some(Arc::from(table)))),
                Output::Send(message) => self.send(*message),
                Output::Ping(ping) => self.start_ping(ping),
                Output::PersistGrants(stored) => {
                    // Not written: the control plane is told again after a restart, and knows it already.
                    if let Err(fault) = self.store_grants(*stored).await {
                        tracing::warn!(reason = %fault.reason, error = %fault, "grants could not be stored");
                    }
                }
                Output::Reconnect(after) => {
                    self.mouths.pause.send_modify(|pause| pause.after = after.min(LONGEST_PAUSE));
                    self.stream = None;
                    self.feed(Input::StreamClosed);
                }
                Output::KeepCheckpoint(held) => match self.persister.keep_checkpoint(&held).await {
                    Ok(()) => self.feed(Input::CheckpointKept(held)),
                    // The control plane shows it again.
                    Err(fault) => {
                        tracing::warn!(reason = %fault.reason, error = %fault, "an audit checkpoint was not kept");
                    }
                },
                Output::AuditAlarm(evidence) => {
                    self.contact.alarmed(Reason::AuditInconsistent);
                    tracing::error!(
                        alarm = true,
                        reason = %Reason::AuditInconsistent,
                        "two histories of the audit log are signed; evidence is kept: {}",
                        evidence.reject.what
                    );
                    if let Err(fault) = self.persister.keep_audit_evidence(&evidence).await {
                        tracing::error!(reason = %fault.reason, error = %fault, "the evidence could not be kept");
                    }
                }
                Output::Alarm(evidence) => {
                    self.contact.alarmed(Reason::SnapshotEquivocation);
                    tracing::error!(
                        alarm = true,
                        reason = %Reason::SnapshotEquivocation,
                        order = %evidence.order,
                        "two histories are signed; evidence is kept and the node is frozen"
                    );
                }
            }
        }
        Ok(())
    }

    /// Takes the addresses of a snapshot before it is written: those of another membership of this host
    /// are refused.
    fn claim(&self, record: &Record) -> Result<(), Fault> {
        match &record.snapshot {
            Some(snapshot) if record.contents_changed => {
                self.claim.take(Pools::of_snapshot(snapshot).map_err(crate::fault::refused)?)
            }
            _ => Ok(()),
        }
    }

    async fn persist(&mut self, id: PersistId, record: &Record) -> Result<(), Fault> {
        if let Err(fault) = self.claim(record) {
            self.contact.alarmed(fault.reason);
            tracing::error!(alarm = true, reason = %fault.reason, error = %fault, "a snapshot was refused");
            (self.contact.disk, self.contact.overlap) = (Some(fault.reason), Some(fault.message));
            self.feed(Input::PersistFailed(id, fault.reason));
            return Ok(());
        }
        match self.persister.write(record).await {
            Ok(()) => {
                (self.contact.disk, self.contact.overlap) = (None, None);
                self.feed(Input::Persisted(id));
                if record.snapshot.is_some() {
                    self.activated().await;
                }
                Ok(())
            }
            // After a failed write or fsync nobody knows what is on the disk.
            Err(fault) if fault.reason == Reason::StateIo => Err(fault),
            Err(fault) => {
                tracing::error!(reason = %fault.reason, error = %fault, "a snapshot could not be stored");
                self.contact.disk = Some(fault.reason);
                self.feed(Input::PersistFailed(id, fault.reason));
                Ok(())
            }
        }
    }

    async fn activated(&mut self) {
        let Some(active) = self.node.snapshot().cloned() else { return };
        self.persister.keep_only(&active).await;
        self.follow(&active);
        let order = active.head().order;
        tracing::debug!(%order, peers = active.contents().peers.len(), "snapshot active");
    }

    /// Tells the other tasks what the snapshot in use says.
    fn follow(&self, active: &VerifiedSnapshot) {
        self.mouths.time.set(*self.node.acceptor().clock());
        let authority = &active.contents().trust.cluster_ca;
        self.mouths.authority.send_if_modified(|current| {
            let changed = current != authority;
            if changed {
                current.clone_from(authority);
            }
            changed
        });
        let window = u64::from(active.head_document().reconnect_window_ms);
        let window = Duration::from_millis(window).min(LONGEST_PAUSE);
        self.mouths.pause.send_modify(|pause| *pause = Pause { after: Duration::ZERO, window });
    }

    /// A full queue means a stream that does not drain: it is given up.
    fn send(&mut self, message: v1::NodeMessage) {
        let Some(stream) = &self.stream else { return };
        if !stream.send(message) {
            self.stream = None;
            self.feed(Input::StreamClosed);
        }
    }

    fn start_ping(&self, ping: RunPing) {
        let (commands, ends) = (self.mouths.commands.clone(), self.pings.clone());
        self.tasks.spawn("diagnostic", async move {
            let outcome = self::ping(&commands, ping.node, ping.count, ping.interval_ms).await;
            let outcome = outcome.map_err(|fault| fault.reason);
            // The driver is gone only if the agent ends.
            let _ = ends.send(PingEnd(ping.diagnostic, outcome)).await;
        });
    }
}

async fn ping(
    commands: &mpsc::Sender<DataplaneCommand>,
    node: NodeId,
    count: u32,
    interval_ms: u32,
) -> Result<v1::PingOutcome, Fault> {
    let (reply, outcome) = oneshot::channel();
    let gone = || Fault::new(Reason::DataplaneUnavailable, "the data plane does not answer");
    let command = DataplaneCommand::Ping { node, count, interval_ms, reply };
    let spread = Duration::from_millis(u64::from(count) * u64::from(interval_ms));
    let exchange = async {
        commands.send(command).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    };
    tokio::time::timeout(spread + PING_GRACE, exchange)
        .await
        .unwrap_or_else(|_| Err(Fault::new(Reason::RequestTimeout, "the ping did not end in time")))
}

const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const PING_GRACE: Duration = Duration::from_secs(5);

const JUDGE: Duration = Duration::from_secs(1);
