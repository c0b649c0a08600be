//! One membership of this host: its cores and the order in which their outputs leave.

mod break_glass;
mod facts;
mod fast_plane;
mod observed;
mod routing;
mod stream;
mod uplink;
mod witness;

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use fast_plane::FastPlane;
use rap_trust::{
    Acceptor, BreakGlass, ContactLog, Input as AcceptorInput, Output as AcceptorOutput, Sense,
    StoredSnapshot, Witness,
};
use rap_types::sense::Loopback;
use rap_types::{Mono, Now};
use rap_wire::v1;
use uplink::Uplink;
use v1::node_message::Body;
use zeroize::Zeroizing;

use crate::endpoint_names::EndpointNames;
use crate::{Input, LinkCertificate, NodeSettings, Output, TableInputs, TrustedCas, build_table};

/// Most changes of ways that one report of the data plane tells.
const CHANGES_TOLD: usize = 16;

/// The cores of one membership.
pub struct Node {
    acceptor: Acceptor,
    /// What was used of the snapshot when it was looked at last for peers that are gone.
    used: Option<Arc<Sense>>,
    break_glass: BreakGlass,
    wireguard_private_key: Zeroizing<[u8; 32]>,
    certificate: Option<LinkCertificate>,
    /// One of a CA that no snapshot in use names yet: only the control plane is shown it.
    early_certificate: Option<LinkCertificate>,
    uplink: Uplink,
    plane: FastPlane,
    control: BTreeSet<IpAddr>,
    names: EndpointNames,
    witness: Witness,
    /// Whether endpoints on the own host are dialled.
    loopback: Loopback,
    outputs: VecDeque<Output>,
}

impl Node {
    /// Starts from what is on disk.
    pub fn start(
        settings: NodeSettings,
        stored: &[StoredSnapshot],
        leaf: Option<LinkCertificate>,
        now: Now,
    ) -> Self {
        let mut node = Self {
            witness: witness::start(&settings.pinned, settings.audit),
            acceptor: Acceptor::start(settings.pinned, settings.floors, stored, now),
            used: None,
            break_glass: BreakGlass::start(settings.grants.0, settings.grants.1),
            wireguard_private_key: settings.wireguard_private_key,
            certificate: leaf,
            early_certificate: None,
            uplink: Uplink::new(settings.contact, now.wall),
            plane: FastPlane::new(settings.path_terms),
            control: BTreeSet::new(),
            loopback: settings.loopback,
            names: EndpointNames::default(),
            outputs: VecDeque::new(),
        };
        node.acceptor.remember(settings.remembered, now);
        let at = node.acceptor.clock().wall(now);
        node.uplink.contact_log = ContactLog::new(node.contact(now), at);
        node.route(now);
        node
    }

    /// Takes one input in; outputs follow by [`Self::poll_output`].
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Control(message) => self.control(*message, now),
            Input::StreamOpened => self.stream_opened(),
            Input::StreamClosed => self.uplink.closed(),
            Input::Persisted(id) => self.accept(AcceptorInput::Persisted(id), now),
            Input::CheckpointKept(kept) => self.witness.kept(*kept),
            Input::PersistFailed(id, reason) => self.accept(AcceptorInput::PersistFailed(id, reason), now),
            Input::CertificateIssued(leaf) => {
                self.early_certificate = Some(leaf);
                self.take_certificate();
                self.publish(now);
            }
            Input::DataplaneUp(facts) => {
                self.plane.came_up(facts);
                self.publish(now);
            }
            Input::DataplaneDown => self.plane.went_down(),
            Input::LinkChanged(event) => self.link_changed(*event, now),
            Input::PeerHeadHeard(head) => self.peer_head_heard(&head),
            Input::PathRefused(refused) => self.path_refused(&refused, now),
            Input::RelaySaid(words) => self.relay_said(&words, now),
            Input::DataplaneExited(exit) => self.dataplane_exited(*exit, now),
            Input::TableApplied(version) => self.plane.table_applied(version),
            Input::TableRefused(reason) => self.plane.refused = Some(reason),
            Input::StatsArrived(stats) => {
                self.plane.links.reported(&stats.peers, now.mono);
                let changes = self.plane.ways.reported(&stats.peers, now.mono);
                self.stats_arrived(*stats, now);
                self.outputs.extend(changes.into_iter().take(CHANGES_TOLD).map(Output::WayChanged));
            }
            Input::PingEnded(id, outcome) => {
                if let Some(result) = self.uplink.diagnostics.finish(id, outcome) {
                    self.send(Body::Diagnostic(result));
                }
            }
            Input::PathExplained(id, outcome) => {
                if let Some(result) = self.uplink.diagnostics.explained(id, outcome) {
                    self.send(Body::Diagnostic(result));
                }
            }
            Input::BreakGlassStored(admission) => self.grant_stored(*admission, now),
            Input::AddressesChanged(link, wireguard) => {
                self.uplink.contact.link_hints = link;
                self.uplink.contact.wireguard_hints = wireguard;
                self.report(now);
            }
            Input::ControlResolved(addresses) if addresses != self.control => {
                self.control = addresses;
                self.publish(now);
            }
            Input::ControlResolved(_) => {}
            Input::NamesResolved(answers) => self.names_resolved(answers, now),
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
        let paths = self.plane.paths.due();
        [freshness, self.uplink.next_deadline(), self.next_grant_end(now), paths].into_iter().flatten().min()
    }

    fn accept(&mut self, input: AcceptorInput, now: Now) {
        self.acceptor.handle(input, now);
        self.route(now);
    }

    fn route(&mut self, now: Now) {
        while let Some(output) = self.acceptor.poll_output() {
            match output {
                AcceptorOutput::Restrict(restriction) => {
                    self.plane.restriction = Some(restriction);
                    self.publish(now);
                }
                AcceptorOutput::Persist(id, record) => self.outputs.push_back(Output::Persist(id, record)),
                AcceptorOutput::Activate(snapshot) => {
                    self.plane.activated(&snapshot);
                    self.take_certificate();
                    self.forget_former_peers();
                    self.publish(now);
                }
                AcceptorOutput::Acknowledge(ack) => self.send(Body::Ack(ack)),
                AcceptorOutput::Refuse(nack) => self.send(Body::Nack(nack)),
                AcceptorOutput::Confirm(confirm) => self.send(Body::Authority(confirm)),
                AcceptorOutput::Alarm(evidence) => self.outputs.push_back(Output::Alarm(evidence)),
            }
        }
    }

    fn forget_former_peers(&mut self) {
        let Some(sense) = self.acceptor.sense() else { return };
        let before = self.used.replace(sense.clone());
        if before.is_none_or(|before| sense.lacks_any_of(&before)) {
            self.uplink.hints.retain(|node| sense.peer(node).is_some());
            self.plane.observations.retain(|node| sense.peer(node).is_some());
        }
    }

    /// Takes a new certificate into use, unless links would be refused with it.
    fn take_certificate(&mut self) {
        let active = self.acceptor.active();
        let trusted = |leaf: &mut LinkCertificate| {
            active.is_none_or(|snapshot| TrustedCas::of(&snapshot.contents().trust).trusts(&leaf.authority))
        };
        if let Some(leaf) = self.early_certificate.take_if(trusted) {
            self.certificate = Some(leaf);
        }
    }

    /// A table needs a snapshot and a leaf, and somebody to take it.
    fn publish(&mut self, now: Now) {
        let (extension, permitted) = (self.extension(now), self.permitted(now));
        let (state, running) = (self.freshness_state(now), self.break_glass.running(self.trusted(now)));
        let (Some(snapshot), Some(sense), Some(leaf), true) =
            (self.acceptor.active(), self.acceptor.sense(), &self.certificate, self.plane.up)
        else {
            return;
        };
        self.plane.paths.follow(sense, self.plane.restriction.as_ref(), now.mono);
        self.plane.paths.decide(now.mono);
        let version = self.plane.publish(state, running);
        let inputs = TableInputs {
            wireguard_private_key: &self.wireguard_private_key,
            leaf,
            hints: &self.uplink.hints,
            control: &self.control,
            extension,
            permitted: &permitted,
            restriction: self.plane.restriction.as_ref(),
            sense,
            paths: self.plane.knows_paths.then_some(&self.plane.paths),
            path_terms: self.plane.path_terms,
            loopback: self.loopback,
            clock: self.acceptor.clock(),
            now,
        };
        let table = build_table(snapshot, version, &inputs);
        self.names.published(table.peers());
        self.plane.links.want(table.peers());
        let table = table.with_addresses(&self.names);
        self.outputs.push_back(Output::Publish(Box::new(table)));
    }

    fn timed_out(&mut self, now: Now) {
        for result in self.uplink.diagnostics.expire(now.mono) {
            self.send(Body::Diagnostic(result));
        }
        if self.uplink.is_report_due(now.mono) {
            self.report(now);
        }
    }

    /// Notices what time or an input made of contact and freshness: a change of contact is reported as soon
    /// as somebody listens, and a policy that ends something early needs another table.
    fn settle(&mut self, now: Now) {
        self.break_glass.follow(self.acceptor.pinned().chain.active());
        let at = self.acceptor.clock().wall(now);
        if self.uplink.contact_log.settle(self.contact(now), at) && self.uplink.reports() {
            self.report(now);
        }
        let (state, running) = (self.freshness_state(now), self.break_glass.running(self.trusted(now)));
        if self.plane.is_outdated(state, self.contract().is_plain(), &running) {
            self.publish(now);
        }
        self.route_anew(now);
    }

    fn send(&mut self, body: Body) {
        if self.uplink.stream {
            self.outputs.push_back(Output::Send(Box::new(v1::NodeMessage { body: Some(body) })));
        }
    }
}
