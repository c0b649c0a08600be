//! One membership of this host: its cores and the order in which their outputs leave.

mod grants;
mod stream;
mod witness;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rap_contract::{Reject, VerifiedSnapshot};
use rap_trust::{
    Acceptor, BreakGlass, ContactChange, ContactLog, DegradedContract, FreshnessState,
    Input as AcceptorInput, Output as AcceptorOutput, StoredSnapshot, Witness, contact_of,
};
use rap_types::{Activity, Digest, Mono, NodeContact, NodeId, Now, Reason};
use rap_wire::v1;
use v1::node_message;
use zeroize::Zeroizing;

use crate::{
    ContactFacts, Diagnostics, Hints, Input, LinkLeaf, NodeSettings, Output, TableInputs, build_table,
};

/// The cores of one membership.
pub struct Node {
    acceptor: Acceptor,
    grants: BreakGlass,
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
    witness: Witness,
    outputs: VecDeque<Output>,
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
    fn publish(&mut self, now: Now) {
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

    fn send(&mut self, body: node_message::Body) {
        if self.stream {
            self.outputs.push_back(Output::Send(Box::new(v1::NodeMessage { body: Some(body) })));
        }
    }
}
