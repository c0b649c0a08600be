//! The loop of one membership: feeds inputs to the node's cores and carries their outputs out in order.
//!
//! Owns the queue and the order. Refuses to decide: `rap_node::Node` does.

use std::sync::Arc;
use std::time::Duration;

use rap_node::{Input, Node, Table};
use rap_runtime::service::{Beat, TURN};
use rap_runtime::{Clock, Fault};
use rap_types::{Mono, Reason};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::key_ages::KeyAges;
use super::ping::PingEnd;
use crate::control_plane::{CertificateTask, Pause, Stream, TrustedTime, UplinkEvent};
use crate::dataplane::{DataplaneCommand, DataplaneEvent};
use crate::host::OwnClaim;
use crate::membership::{GrantStore, Leaf, LeafStore, Persister, Wanted};
use crate::requests::Request;
use crate::status::{Contact, StatusFacts};

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

    pub(super) fn feed(&mut self, input: Input) {
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
}

const JUDGE: Duration = Duration::from_secs(1);
