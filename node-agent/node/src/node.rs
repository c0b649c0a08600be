//! One membership of this host: its cores and the order in which their outputs leave.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rap_contract::Reject;
use rap_contract::VerifiedSnapshot;
use rap_trust::{
    Acceptor, Activity, BreakGlass, ContactChange, ContactLog, DegradedContract, FreshnessState,
    Input as AcceptorInput, Output as AcceptorOutput, StoredSnapshot, Witness, contact_of, known_features,
};
use rap_types::{Digest, Mono, NodeContact, NodeId, Now, Reason};
use rap_wire::v1;
use v1::{control_message, node_message};
use zeroize::Zeroizing;

use crate::diagnostics;
use crate::witness;
use crate::{
    ContactFacts, Diagnostics, Hints, Input, LinkLeaf, NodeSettings, Output, TableInputs, build_table,
};

/// The cores of one membership.
pub struct Node {
    pub(crate) acceptor: Acceptor,
    pub(crate) grants: BreakGlass,
    published_grants: Vec<Digest>,
    wireguard_private_key: Zeroizing<[u8; 32]>,
    contact: ContactFacts,
    leaf: Option<LinkLeaf>,
    hints: Hints,
    diagnostics: Diagnostics,
    stream: bool,
    report_interval: Option<Duration>,
    report_at: Option<Mono>,
    dataplane: bool,
    table_version: u64,
    table_applied: u64,
    table_refused: Option<Reason>,
    stats: v1::Stats,
    contact_log: ContactLog,
    published_in: Option<FreshnessState>,
    pub(crate) witness: Witness,
    pub(crate) outputs: VecDeque<Output>,
}

impl Node {
    /// Starts from what is on disk.
    pub fn start(
        settings: NodeSettings,
        stored: &[StoredSnapshot],
        leaf: Option<LinkLeaf>,
        now: Now,
    ) -> Self {
        let mut node = Self {
            witness: witness::start(&settings.pinned, settings.audit),
            acceptor: Acceptor::start(settings.pinned, settings.floors, stored, now),
            grants: BreakGlass::start(settings.grants.0, settings.grants.1),
            published_grants: Vec::new(),
            wireguard_private_key: settings.wireguard_private_key,
            contact: settings.contact,
            leaf,
            hints: Hints::default(),
            diagnostics: Diagnostics::default(),
            stream: false,
            report_interval: None,
            report_at: None,
            dataplane: false,
            table_version: 0,
            table_applied: 0,
            table_refused: None,
            stats: v1::Stats::default(),
            contact_log: ContactLog::new(NodeContact::Isolated, now.wall),
            published_in: None,
            outputs: VecDeque::new(),
        };
        let at = node.acceptor.clock().wall(now);
        node.contact_log = ContactLog::new(node.contact(now), at);
        node.route(now);
        node
    }

    /// Takes one input in; outputs follow by [`Self::poll_output`].
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Control(message) => self.control(*message, now),
            Input::StreamOpened => {
                self.stream = true;
                self.witness.told();
                let hello = self.hello();
                self.send(node_message::Body::Hello(hello));
                let confirmation = self.acceptor.confirmation();
                self.send(node_message::Body::Authority(confirmation));
                self.tell_grants();
            }
            Input::StreamClosed => {
                self.stream = false;
                self.report_at = None;
            }
            Input::Persisted(id) => self.accept(AcceptorInput::Persisted(id), now),
            Input::CheckpointKept(kept) => self.witness.kept(*kept),
            Input::PersistFailed(id, reason) => self.accept(AcceptorInput::PersistFailed(id, reason), now),
            Input::LeafIssued(leaf) => {
                self.leaf = Some(leaf);
                self.publish(now);
            }
            Input::DataplaneUp(applied) => {
                self.dataplane = true;
                self.table_applied = applied;
                self.table_version = self.table_version.max(applied);
                self.table_refused = None;
                self.publish(now);
            }
            Input::DataplaneDown => {
                self.dataplane = false;
                self.table_applied = 0;
                self.stats = v1::Stats::default();
            }
            Input::TableApplied(version) => {
                self.table_applied = version;
                self.table_refused = None;
            }
            Input::TableRefused(reason) => self.table_refused = Some(reason),
            Input::StatsArrived(stats) => self.stats = *stats,
            Input::PingEnded(id, outcome) => {
                if let Some(result) = self.diagnostics.finish(id, outcome) {
                    self.send(node_message::Body::Diagnostic(result));
                }
            }
            Input::GrantStored(admission) => self.grant_stored(*admission, now),
            Input::AddressesChanged(link, wireguard) => {
                self.contact.link_hints = link;
                self.contact.wireguard_hints = wireguard;
                self.report(now);
            }
            Input::TimedOut => self.timed_out(now),
        }
        self.settle(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::TimedOut`] is due.
    pub fn poll_timeout(&self, now: Now) -> Option<Mono> {
        let freshness =
            self.freshness(now).and_then(|freshness| freshness.next_change(self.acceptor.clock(), now));
        [freshness, self.report_at, self.diagnostics.next_deadline(), self.next_grant_end(now)]
            .into_iter()
            .flatten()
            .min()
    }

    /// The acceptor, for status.
    pub const fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    /// The snapshot in use.
    pub fn snapshot(&self) -> Option<&Arc<VerifiedSnapshot>> {
        self.acceptor.active()
    }

    /// State of the snapshot in use at `now`.
    pub fn freshness_state(&self, now: Now) -> Option<FreshnessState> {
        self.freshness(now).map(|freshness| freshness.state(self.trusted(now)))
    }

    /// Contact with the control plane as this node sees it.
    pub fn contact(&self, now: Now) -> NodeContact {
        contact_of(self.stream, self.freshness_state(now))
    }

    /// The contact that was settled last, and since when.
    pub const fn contact_since(&self) -> ContactChange {
        self.contact_log.present()
    }

    /// The degraded-mode contract under the policy in use.
    pub fn contract(&self) -> DegradedContract {
        self.snapshot().map(|snapshot| DegradedContract::of(&snapshot.contents().policy)).unwrap_or_default()
    }

    /// Asks the degraded-mode contract, at the one place where an activity happens.
    ///
    /// # Errors
    /// `degraded.refused`.
    pub fn permit(&self, activity: Activity, now: Now) -> Result<(), Reject> {
        if self.contract().allows(self.freshness_state(now), activity) {
            return Ok(());
        }
        Err(Reject::new(Reason::DegradedRefused, activity.phrase()))
    }

    /// The leaf in use.
    pub const fn leaf(&self) -> Option<&LinkLeaf> {
        self.leaf.as_ref()
    }

    /// What the data plane reported last.
    pub const fn stats(&self) -> &v1::Stats {
        &self.stats
    }

    /// True while a data plane is there.
    pub const fn dataplane_up(&self) -> bool {
        self.dataplane
    }

    /// Version of the table published last, of the one applied, and why the last was refused.
    pub const fn table(&self) -> (u64, u64, Option<Reason>) {
        (self.table_version, self.table_applied, self.table_refused)
    }

    /// The peer of this name or id.
    pub fn peer(&self, name_or_id: &str, now: Now) -> Option<NodeId> {
        let peers = &self.snapshot()?.contents().peers;
        if let Ok(id) = name_or_id.parse::<NodeId>() {
            return Some(id).filter(|id| self.is_peer(*id, now));
        }
        let named = peers.iter().find(|(_, peer)| peer.name == name_or_id).map(|(node, _)| *node);
        named.or_else(|| {
            let permitted = self.permitted(now).into_iter().find(|peer| peer.record.name == name_or_id);
            NodeId::from_slice(&permitted?.record.node_id).ok()
        })
    }

    fn hello(&self) -> v1::NodeHello {
        let newest = self.acceptor.newest();
        let contact = self.contact.clone();
        v1::NodeHello {
            protocol_min: PROTOCOL,
            protocol_max: PROTOCOL,
            features: known_features(self.acceptor.pinned().accept_dev)
                .iter()
                .map(ToString::to_string)
                .collect(),
            newest_head: newest.map(|newest| newest.head_document().envelope().to_vec()).unwrap_or_default(),
            leaf_hash: newest.map(|newest| newest.leaf_hash().to_vec()).unwrap_or_default(),
            agent_version: contact.agent_version,
            boot_id: contact.boot_id,
            capabilities: contact.capabilities,
            link_hints: contact.link_hints,
            wireguard_hints: contact.wireguard_hints,
            newest_checkpoint: self.witness.note(),
            authority_sequence: self.acceptor.authority().0,
        }
    }

    fn control(&mut self, message: v1::ControlMessage, now: Now) {
        use control_message::Body;
        match message.body {
            Some(Body::Hello(hello)) => {
                let interval = Duration::from_millis(u64::from(hello.report_interval_ms));
                self.report_interval = (!interval.is_zero()).then_some(interval);
                self.report(now);
            }
            Some(Body::Update(update)) => self.accept(AcceptorInput::Updated(update), now),
            Some(Body::Head(head)) => self.accept(AcceptorInput::HeadArrived(head), now),
            Some(Body::Authority(records)) => self.accept(AcceptorInput::RecordsArrived(records), now),
            Some(Body::Checkpoint(shown)) => self.shown_checkpoint(shown),
            Some(Body::Diagnostic(request)) => self.diagnose(request, now),
            Some(Body::Directory(update)) => {
                let peers = self.acceptor.active().map(|active| &active.contents().peers);
                let is_peer = |node: NodeId| peers.is_some_and(|peers| peers.contains_key(&node));
                if self.hints.apply(update, is_peer) {
                    self.publish(now);
                }
            }
            Some(Body::BreakGlassAck(ack)) => self.grant_acknowledged(&ack),
            Some(Body::GoingAway(going)) => {
                let after = Duration::from_millis(u64::from(going.reconnect_after_ms));
                self.outputs.push_back(Output::Reconnect(after));
            }
            // A message that a newer control plane knows and this node does not.
            None => {}
        }
    }

    fn diagnose(&mut self, request: v1::DiagnosticRequest, now: Now) {
        let target = match &request.body {
            Some(v1::diagnostic_request::Body::Ping(ping)) => NodeId::from_slice(&ping.node_id).ok(),
            None => None,
        };
        let known = target.is_some_and(|target| self.is_peer(target, now));
        let admitted = match self.permit(Activity::Probe, now) {
            Ok(()) => self.diagnostics.admit(request, now.mono, |_| known),
            Err(reject) => Err(Box::new(diagnostics::refusal(request.diagnostic_id, reject.reason))),
        };
        match admitted {
            Ok(ping) => self.outputs.push_back(Output::Ping(ping)),
            Err(refusal) => self.send(node_message::Body::Diagnostic(*refusal)),
        }
    }

    fn accept(&mut self, input: AcceptorInput, now: Now) {
        self.acceptor.handle(input, now);
        self.route(now);
    }

    fn route(&mut self, now: Now) {
        while let Some(output) = self.acceptor.poll_output() {
            match output {
                AcceptorOutput::Persist(id, record) => self.outputs.push_back(Output::Persist(id, record)),
                AcceptorOutput::Activate(snapshot) => {
                    self.hints.retain(|node| snapshot.contents().peers.contains_key(&node));
                    self.publish(now);
                }
                AcceptorOutput::Acknowledge(ack) => self.send(node_message::Body::Ack(ack)),
                AcceptorOutput::Refuse(nack) => self.send(node_message::Body::Nack(nack)),
                AcceptorOutput::Confirm(confirm) => self.send(node_message::Body::Authority(confirm)),
                AcceptorOutput::Alarm(evidence) => self.outputs.push_back(Output::Alarm(evidence)),
            }
        }
    }

    /// A table needs a snapshot and a leaf, and somebody to take it.
    pub(crate) fn publish(&mut self, now: Now) {
        let (extension, permitted) = (self.extension(now), self.permitted(now));
        let (Some(snapshot), Some(leaf), true) = (self.acceptor.active(), &self.leaf, self.dataplane) else {
            return;
        };
        self.table_version += 1;
        self.published_in = self.freshness_state(now);
        self.published_grants = self.grants.running(self.trusted(now));
        let inputs = TableInputs {
            wireguard_private_key: &self.wireguard_private_key,
            leaf,
            hints: &self.hints,
            extension,
            permitted: &permitted,
            clock: self.acceptor.clock(),
            now,
        };
        let table = build_table(snapshot, self.table_version, &inputs);
        self.outputs.push_back(Output::Publish(Box::new(table)));
    }

    fn timed_out(&mut self, now: Now) {
        for result in self.diagnostics.expire(now.mono) {
            self.send(node_message::Body::Diagnostic(result));
        }
        if self.report_at.is_some_and(|at| at <= now.mono) {
            self.report(now);
        }
    }

    /// Notices what time or an input made of contact and freshness: a change of contact is reported as soon
    /// as somebody listens, and a policy that ends something early needs another table.
    fn settle(&mut self, now: Now) {
        self.grants.follow(self.acceptor.pinned().chain.active());
        let at = self.acceptor.clock().wall(now);
        if self.contact_log.settle(self.contact(now), at) && self.report_interval.is_some() {
            self.report(now);
        }
        let state = self.freshness_state(now);
        let other_words = state != self.published_in && !self.contract().is_plain();
        let other_grants = self.grants.running(self.trusted(now)) != self.published_grants;
        if self.published_in.is_some() && (other_words || other_grants) {
            self.publish(now);
        }
    }

    fn report(&mut self, now: Now) {
        if !self.stream {
            return;
        }
        let links = self.stats.peers.iter().map(|peer| v1::LinkReport {
            peer: peer.node_id.clone(),
            state: peer.link_state.clone(),
            rtt_us: u32::try_from(peer.link_rtt_ns / 1000).unwrap_or(u32::MAX),
        });
        let report = v1::NodeReport {
            contact: self.contact(now).as_str().to_owned(),
            links: links.collect(),
            link_hints: self.contact.link_hints.clone(),
            wireguard_hints: self.contact.wireguard_hints.clone(),
            dataplane_up: u32::from(self.dataplane),
            contact_changes: self.contact_log.tell().into_iter().map(told).collect(),
        };
        self.report_at = self.report_interval.map(|interval| now.mono.plus(interval));
        self.send(node_message::Body::Report(report));
    }

    pub(crate) fn send(&mut self, body: node_message::Body) {
        if self.stream {
            self.outputs.push_back(Output::Send(Box::new(v1::NodeMessage { body: Some(body) })));
        }
    }
}

fn told(change: ContactChange) -> v1::ContactChange {
    v1::ContactChange { contact: change.contact.as_str().to_owned(), at_ms: change.at.0 }
}

const PROTOCOL: u32 = 1;
