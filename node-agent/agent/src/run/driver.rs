//! The loop of one membership: feeds inputs to the node's cores and carries their outputs out in order.
//!
//! Owns the loop. It awaits inputs and nothing else: what takes time is another task's. Refuses to decide:
//! `rap_node::Node` does.

use std::sync::Arc;
use std::time::Duration;

use rap_node::{ForwardingTable, Input, Node, TrustedCas, WantedNames};
use rap_runtime::service::{Beat, TURN};
use rap_runtime::tls::CertificateCell;
use rap_runtime::{Clock, Fault, TaskGroup};
use rap_state::Cache;
use rap_types::{HeadOrder, Mono};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::disk::{Disk, Waiting, Write, Written};
use super::key_ages::KeyAges;
use super::ping::PingEnd;
use crate::control_plane::{CertificateTask, Doubts, Pause, Stream, TrustedTime, UplinkEvent};
use crate::dataplane::{DataplaneCommand, DataplaneEvent};
use crate::host::{Answer, OwnClaim};
use crate::membership::{StoredCertificate, StoredTime, Wanted};
use crate::requests::Request;
use crate::status::{Contact, StatusFacts};

/// What the driver reads.
pub(super) struct Receivers {
    pub(super) uplink: mpsc::Receiver<UplinkEvent>,
    pub(super) dataplane: mpsc::Receiver<DataplaneEvent>,
    pub(super) certificates: mpsc::Receiver<StoredCertificate>,
    pub(super) certificate_failure: watch::Receiver<Option<Fault>>,
    pub(super) addresses: watch::Receiver<(Vec<String>, Vec<String>)>,
    pub(super) resolved_names: mpsc::Receiver<Vec<Answer>>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) ping_ends: mpsc::Receiver<PingEnd>,
    pub(super) written: mpsc::Receiver<Written>,
}

/// What the driver writes, besides the disk.
pub(super) struct Senders {
    pub(super) tables: watch::Sender<Option<Arc<ForwardingTable>>>,
    pub(super) commands: mpsc::Sender<DataplaneCommand>,
    pub(super) certificate_ready: watch::Sender<bool>,
    pub(super) doubts: watch::Sender<Doubts>,
    pub(super) cluster_ca: watch::Sender<TrustedCas>,
    pub(super) pause: watch::Sender<Pause>,
    pub(super) stale_head: watch::Sender<Option<HeadOrder>>,
    pub(super) wanted_names: watch::Sender<WantedNames>,
    /// For the pings that the driver starts.
    pub(super) ping_ends: mpsc::Sender<PingEnd>,
}

/// Drives one membership.
pub(super) struct Driver {
    pub(super) node: Node,
    pub(super) disk: Disk,
    /// How much the cache holds, for status. The persist task writes to it.
    pub(super) cache: Cache,
    pub(super) receivers: Receivers,
    pub(super) senders: Senders,
    /// The stream while one is open.
    pub(super) stream: Option<Stream>,
    /// The certificate that TLS presents to the control plane.
    pub(super) certificate: CertificateCell,
    /// Trusted time, which TLS judges certificates by.
    pub(super) time: TrustedTime,
    /// Reserves overlay pools on this host.
    pub(super) claim: OwnClaim,
    pub(super) ages: KeyAges,
    /// When the age of the keys was last looked at.
    pub(super) judged: Option<Mono>,
    /// When trusted time was written last, or the start.
    pub(super) time_stored: Mono,
    /// The kernel's id of this boot.
    pub(super) boot_id: String,
    pub(super) facts: StatusFacts,
    pub(super) contact: Contact,
    /// Activation manifest of the membership, for exports.
    pub(super) manifest: Vec<u8>,
    /// Proofs by the identity key.
    pub(super) proofs: CertificateTask,
    pub(super) tasks: TaskGroup,
    /// Reports progress to the systemd watchdog.
    pub(super) beat: Beat,
    pub(super) clock: Clock,
}

impl Driver {
    /// Runs until cancelled. `leaf` is the certificate on disk.
    ///
    /// # Errors
    /// A fault of the disk after which nothing on it can be relied on: the membership ends and starts over.
    pub(super) async fn run(
        mut self,
        leaf: Option<StoredCertificate>,
        cancel: CancellationToken,
    ) -> Result<(), Fault> {
        if let Some(leaf) = leaf {
            self.present(&leaf);
        }
        self.carry_out();
        self.activated();
        self.begin_write();
        loop {
            self.beat.turned();
            self.beat.say(self.in_short());
            let timeout = self.node.poll_timeout(self.clock.now());
            let due = timeout.map(|at| at.since(self.clock.now().mono).min(TURN));
            tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    self.disk.last(Write::Time(self.time_to_store()));
                    return Ok(());
                }
                Some(written) = self.receivers.written.recv() => self.written(written)?,
                Some(event) = self.receivers.uplink.recv() => self.uplink(event),
                Some(event) = self.receivers.dataplane.recv() => self.dataplane(event),
                Some(leaf) = self.receivers.certificates.recv() => self.issued(leaf),
                Some(PingEnd(id, outcome)) = self.receivers.ping_ends.recv() => {
                    self.feed(Input::PingEnded(id, outcome));
                }
                Some(answers) = self.receivers.resolved_names.recv() => {
                    self.feed(Input::NamesResolved(answers));
                }
                Some(request) = self.receivers.requests.recv() => self.request(request),
                Ok(()) = self.receivers.addresses.changed() => {
                    let (link, wireguard) = self.receivers.addresses.borrow_and_update().clone();
                    self.feed(Input::AddressesChanged(link, wireguard));
                }
                () = tokio::time::sleep(due.unwrap_or(TURN)) => self.feed(Input::TimedOut),
            }
            self.carry_out();
            self.begin_write();
            self.judge_keys();
            self.tell_stale_head();
            self.tell_wanted_names();
            self.store_time();
        }
    }

    /// Trusted time is on disk from minute to minute, and with a clean end.
    fn store_time(&mut self) {
        let now = self.clock.now().mono;
        if now >= self.time_stored.plus(STORE_TIME) {
            self.time_stored = now;
            self.wait_for_disk(Waiting::Ready(Write::Time(self.time_to_store())));
        }
    }

    fn time_to_store(&self) -> StoredTime {
        let now = self.clock.now();
        StoredTime {
            trusted: self.node.acceptor().clock().wall(now),
            boottime_ns: now.mono.0,
            boot_id: self.boot_id.clone(),
        }
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

    fn tell_stale_head(&self) {
        let stale = self.node.stale_head(self.clock.now());
        self.senders.stale_head.send_if_modified(|told| std::mem::replace(told, stale) != stale);
    }

    fn tell_wanted_names(&self) {
        let wanted = self.node.wanted_names();
        self.senders.wanted_names.send_if_modified(|told| {
            let changed = told != wanted;
            if changed {
                told.clone_from(wanted);
            }
            changed
        });
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
}

const JUDGE: Duration = Duration::from_secs(1);
const STORE_TIME: Duration = Duration::from_secs(60);
