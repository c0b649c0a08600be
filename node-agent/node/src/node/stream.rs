//! What the control plane says on the stream, and what it is told: hello, reports, diagnostics.

use std::time::Duration;

use rap_trust::{ContactChange, Input as AcceptorInput, known_features};
use rap_types::{Activity, NodeId, Now, Reason};
use rap_wire::v1;
use v1::{control_message, node_message};

use super::Node;
use crate::Output;
use crate::diagnostics::{self, Admitted};

impl Node {
    /// A stream is open: it starts with a hello, the position in the authority chain and what was not
    /// acknowledged yet.
    pub(super) fn stream_opened(&mut self) {
        self.uplink.stream = true;
        self.witness.told();
        self.plane.observations.stream_opened();
        self.send(node_message::Body::Hello(self.hello()));
        self.send(node_message::Body::Authority(self.acceptor.confirmation()));
        self.tell_grants();
    }

    fn hello(&self) -> v1::NodeHello {
        let newest = self.acceptor.newest();
        let contact = self.uplink.contact.clone();
        let floor = self.acceptor.floors().head;
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
            second: false,
            instance_id: contact.instance.to_vec(),
            floor: Some(v1::HeadOrder {
                incarnation: floor.incarnation.0,
                version: floor.version.0,
                refresh: 0,
            }),
        }
    }

    pub(super) fn control(&mut self, message: v1::ControlMessage, now: Now) {
        use control_message::Body;
        match message.body {
            Some(Body::Hello(hello)) => {
                // Whoever still doubts says so after it.
                self.uplink.doubt = None;
                self.uplink.report_every(hello.report_interval_ms);
                let said = Some(hello.server_time_ms).filter(|time| *time > 0);
                self.uplink.skew_ms = said.map(|time| time.saturating_sub(now.wall.0));
                self.report(now);
            }
            Some(Body::Update(update)) => self.accept(AcceptorInput::Updated(update), now),
            Some(Body::Head(head)) => self.accept(AcceptorInput::HeadArrived(head), now),
            Some(Body::Authority(records)) => self.accept(AcceptorInput::RecordsArrived(records), now),
            Some(Body::Checkpoint(shown)) => self.shown_checkpoint(shown),
            Some(Body::Diagnostic(request)) => self.diagnose(request, now),
            Some(Body::Directory(update)) => {
                let sense = self.acceptor.sense();
                let is_peer = |node: NodeId| sense.is_some_and(|sense| sense.peer(node).is_some());
                if self.uplink.hints.apply(update, is_peer) {
                    self.publish(now);
                }
            }
            Some(Body::BreakGlassAck(ack)) => self.grant_acknowledged(&ack),
            Some(Body::IdentityNotice(notice)) => self.doubted(&notice.reason),
            Some(Body::GoingAway(going)) => {
                let after = Duration::from_millis(u64::from(going.reconnect_after_ms));
                self.outputs.push_back(Output::Reconnect { after, not_ready: going.not_ready });
            }
            // A message that a newer control plane knows and this node does not.
            None => {}
        }
    }

    /// The control plane doubts this node's identity; an empty code ends the doubt.
    fn doubted(&mut self, code: &str) {
        self.uplink.doubt = Reason::from_code(code);
        match self.uplink.doubt {
            Some(reason) => {
                tracing::error!(alarm = true, %reason, "the control plane doubts this node's identity")
            }
            None => tracing::info!("the control plane doubts this node's identity no more"),
        }
    }

    fn diagnose(&mut self, request: v1::DiagnosticRequest, now: Now) {
        let target = match &request.body {
            Some(v1::diagnostic_request::Body::Ping(ping)) => NodeId::from_slice(&ping.node_id).ok(),
            Some(v1::diagnostic_request::Body::PathExplain(path)) => NodeId::from_slice(&path.node_id).ok(),
            None => None,
        };
        let known = target.is_some_and(|target| self.is_peer(target, now));
        let admitted = match self.permit(Activity::Probe, now) {
            Ok(()) => self.uplink.diagnostics.admit(request, now.mono, |_| known),
            Err(reject) => Err(Box::new(diagnostics::refusal(request.diagnostic_id, reject.reason))),
        };
        match admitted {
            Ok(Admitted::Ping(ping)) => self.outputs.push_back(Output::Ping(ping)),
            Ok(Admitted::Explain(explain)) => self.outputs.push_back(Output::Explain(explain)),
            Err(refusal) => self.send(node_message::Body::Diagnostic(*refusal)),
        }
    }

    pub(super) fn report(&mut self, now: Now) {
        if !self.uplink.stream {
            return;
        }
        let told = self.plane.observations.tell();
        let report = v1::NodeReport {
            contact: self.contact(now).as_str().to_owned(),
            links: told.links,
            link_hints: self.uplink.contact.link_hints.clone(),
            wireguard_hints: self.uplink.contact.wireguard_hints.clone(),
            dataplane_up: u32::from(self.plane.up),
            contact_changes: self.uplink.contact_log.tell().into_iter().map(contact_change).collect(),
            peer_heads: told.heads,
            dataplane_exit: told.exit,
            unused_slots: self.unused_slots().take(UNUSED_SLOTS).collect(),
        };
        self.uplink.reported(now.mono);
        if self.plane.observations.is_untold() {
            self.uplink.report_soon(now.mono);
        }
        self.send(node_message::Body::Report(report));
    }
}

fn contact_change(change: ContactChange) -> v1::ContactChange {
    v1::ContactChange { contact: change.contact.as_str().to_owned(), at_ms: change.at.0 }
}

/// Most slots that are not used and told in one report.
const UNUSED_SLOTS: usize = 64;
const PROTOCOL: u32 = 1;
