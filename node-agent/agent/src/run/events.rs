//! What other tasks tell the driver, as inputs of the node's cores.
//!
//! Owns the log lines that go with it. Refuses to decide: `rap_node::Node` does.

use rap_node::{Input, LinkCertificate, PlaneFacts};
use rap_runtime::Fault;
use rap_types::Reason;
use rap_wire::v1;

use super::disk::{Waiting, Write};
use super::driver::Driver;
use crate::control_plane::{Pause, UplinkEvent};
use crate::dataplane::DataplaneEvent;
use crate::membership::StoredCertificate;

/// What a data plane says that carries traffic on paths through relays.
const PATHS: &str = "paths";

impl Driver {
    pub(super) fn uplink(&mut self, event: UplinkEvent) {
        let now = self.clock.now();
        match event {
            UplinkEvent::Resolved(addresses) => self.feed(Input::ControlResolved(addresses)),
            UplinkEvent::Opened(url, stream) => {
                self.stream = Some(stream);
                // What the control plane asked at the end of the last stream was about that one.
                self.senders
                    .pause
                    .send_modify(|pause| *pause = Pause { window: pause.window, ..Pause::default() });
                self.contact.dialled(url);
                self.feed(Input::StreamOpened);
            }
            UplinkEvent::Message(message) => {
                if self.contact.heard(now) {
                    tracing::info!("contact with the control plane again");
                }
                if matches!(message.body, Some(v1::control_message::Body::Hello(_))) {
                    self.accepted();
                }
                self.feed(Input::Control(message));
            }
            UplinkEvent::Doubted => self.senders.doubts.send_modify(|doubts| doubts.refused += 1),
            UplinkEvent::Lost(url, fault) => {
                if matches!(fault.reason, Reason::NodeRevoked | Reason::CertificateInvalid) {
                    self.senders.doubts.send_modify(|doubts| doubts.refused += 1);
                }
                if self.contact.lost(url, &fault, now) {
                    tracing::warn!(reason = %fault.reason, error = %fault, "no contact with the control plane");
                }
                self.stream = None;
                self.feed(Input::StreamClosed);
            }
        }
    }

    /// The control plane serves a stream under this node's certificate: the node is a member, whatever it was told before.
    fn accepted(&self) {
        let refused = |fault: &Fault| fault.reason != Reason::ServerUnreachable;
        if self.receivers.certificate_failure.borrow().as_ref().is_some_and(refused) {
            self.senders.doubts.send_modify(|doubts| doubts.accepted += 1);
        }
    }

    pub(super) fn dataplane(&mut self, event: DataplaneEvent) {
        match event {
            DataplaneEvent::Up(facts) => {
                tracing::info!(pid = facts.hello.pid, adopted = facts.adopted, "data plane up");
                let plane = PlaneFacts {
                    applied: facts.hello.table_version,
                    path_instance: facts.path_instance,
                    knows_paths: facts.hello.features.iter().any(|feature| feature == PATHS),
                };
                self.contact.dataplane_up(facts);
                self.feed(Input::DataplaneUp(plane));
            }
            DataplaneEvent::Down(fault) => {
                if self.contact.dataplane_down(&fault) {
                    tracing::warn!(reason = %fault.reason, error = %fault, "data plane down");
                }
                self.feed(Input::DataplaneDown);
            }
            DataplaneEvent::Refused(fault) => {
                tracing::error!(reason = %fault.reason, error = %fault, "the data plane refused a table");
                self.feed(Input::TableRefused(fault.reason));
            }
            DataplaneEvent::Told(input) => self.feed(input),
            DataplaneEvent::Exited(exit) => {
                tracing::error!(pid = exit.pid, how = %exit, "the data plane ended");
                let status = exit.status_text();
                let (reason, text) = exit.fault.map(|fault| (fault.reason, fault.text)).unwrap_or_default();
                let told = v1::DataplaneExit { at_ms: 0, status, reason, text };
                self.feed(Input::DataplaneExited(Box::new(told)));
            }
        }
    }

    /// A certificate was issued. It is in use before it is on disk: after a restart another is issued.
    pub(super) fn issued(&mut self, leaf: StoredCertificate) {
        self.present(&leaf);
        let of_another_ca = |before: &LinkCertificate| before.authority != leaf.authority;
        if self.node.leaf().is_some_and(of_another_ca) && self.stream.take().is_some() {
            // The control plane waits to see it.
            self.feed(Input::StreamClosed);
        }
        self.wait_for_disk(Waiting::Ready(Write::Certificate(leaf.clone())));
        self.feed(Input::CertificateIssued(leaf.into()));
    }

    /// Presents this certificate to the control plane from now on.
    pub(super) fn present(&mut self, leaf: &StoredCertificate) {
        self.contact.certificate = Some((leaf.not_before, leaf.not_after));
        let chain = vec![leaf.certificate.clone().into()];
        match leaf.private_key.to_vec().try_into() {
            Ok(key) => match self.certificate.set(chain, key) {
                Ok(()) => drop(self.senders.certificate_ready.send_replace(true)),
                Err(error) => tracing::error!(%error, "the certificate cannot be used"),
            },
            Err(error) => tracing::error!(error, "the certificate's key cannot be used"),
        }
    }
}
