//! Carries out what the node's cores want, in order.
//!
//! Owns the order. A write joins the queue of the disk; everything else is done at once. Refuses to decide:
//! `rap_node::Node` does.

use std::sync::Arc;
use std::time::Duration;

use rap_contract::VerifiedSnapshot;
use rap_node::{Input, Output, RunPing, TrustedCas};
use rap_runtime::Fault;
use rap_trust::{AuditEvidence, PersistId, Pools, Record};
use rap_types::Reason;
use rap_wire::v1;

use super::disk::{Waiting, Write};
use super::driver::Driver;
use super::ping::{self, PingEnd};
use super::tasks::DIAGNOSTIC;
use crate::control_plane::Pause;
use crate::status::{explanation, name_of, way_in_words, why_changed};

impl Driver {
    /// Carries out what the cores want. What depends on the disk is not among it before the disk has answered.
    pub(super) fn carry_out(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Persist(id, record) => self.persist(id, record),
                Output::Publish(table) => drop(self.senders.tables.send_replace(Some(Arc::from(table)))),
                Output::Send(message) => self.send(*message),
                Output::Ping(ping) => self.start_ping(ping),
                Output::Explain(asked) => {
                    let (peer, now) = (asked.node.to_string(), self.clock.now());
                    let outcome = explanation(&self.node, &peer, asked.class, &asked.down, now);
                    let outcome = outcome.map(|document| document.to_string()).map_err(|fault| fault.reason);
                    self.feed(Input::PathExplained(asked.diagnostic, outcome));
                }
                Output::PersistBreakGlass => self.wait_for_disk(Waiting::BreakGlassAcknowledged),
                Output::Reconnect { after, not_ready } => {
                    let after = after.min(LONGEST_PAUSE);
                    self.senders.pause.send_modify(|pause| *pause = Pause { after, not_ready, ..*pause });
                    self.stream = None;
                    self.feed(Input::StreamClosed);
                }
                Output::KeepCheckpoint(held) => {
                    self.wait_for_disk(Waiting::Ready(Write::Checkpoint(held)));
                }
                Output::AuditAlarm(evidence) => self.audit_alarm(evidence),
                Output::WayChanged(change) => {
                    let (from, to) =
                        (way_in_words(&self.node, &change.from), way_in_words(&self.node, &change.to));
                    let (peer, why) = (name_of(&self.node, change.peer), why_changed(&self.node, &change));
                    tracing::info!(peer, from, to, why, untold = change.untold, "traffic takes another way");
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
    }

    fn audit_alarm(&mut self, evidence: Box<AuditEvidence>) {
        self.contact.alarmed(Reason::AuditInconsistent);
        tracing::error!(
            alarm = true,
            reason = %Reason::AuditInconsistent,
            "two histories of the audit log are signed; evidence is kept: {}",
            evidence.reject.what
        );
        self.wait_for_disk(Waiting::Ready(Write::AuditEvidence(evidence)));
    }

    /// Takes the addresses of a snapshot before it is written: those of another membership of this host
    /// are refused.
    fn claim(&self, record: &Record) -> Result<(), Fault> {
        match &record.snapshot {
            Some(snapshot) if record.contents_changed => {
                let own = self.node.acceptor().own_addresses(snapshot);
                self.claim.take(Pools::of_own(own.as_ref()))
            }
            _ => Ok(()),
        }
    }

    fn persist(&mut self, id: PersistId, record: Box<Record>) {
        if let Err(fault) = self.claim(&record) {
            self.contact.alarmed(fault.reason);
            tracing::error!(alarm = true, reason = %fault.reason, error = %fault, "a snapshot was refused");
            (self.contact.disk, self.contact.overlap) = (Some(fault.reason), Some(fault.message));
            self.feed(Input::PersistFailed(id, fault.reason));
            return;
        }
        self.wait_for_disk(Waiting::Ready(Write::Record(id, record)));
    }

    /// The snapshot in use is another one: what is older goes, and the other tasks hear what it says.
    pub(super) fn activated(&mut self) {
        let Some(active) = self.node.snapshot().cloned() else { return };
        self.follow(&active);
        let order = active.head().order;
        tracing::debug!(%order, peers = active.contents().peers.len(), "snapshot active");
        self.disk.add_first(Write::KeepOnly(active));
    }

    /// Tells the other tasks what the snapshot in use says.
    fn follow(&self, active: &VerifiedSnapshot) {
        self.time.set(*self.node.acceptor().clock());
        let cas = TrustedCas::of(&active.contents().trust);
        let replaced = |current: &mut TrustedCas| std::mem::replace(current, cas.clone()) != cas;
        self.senders.cluster_ca.send_if_modified(replaced);
        let window = u64::from(active.head_document().reconnect_window_ms);
        let window = Duration::from_millis(window).min(LONGEST_PAUSE);
        self.senders.pause.send_modify(|pause| *pause = Pause { window, ..Pause::default() });
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
        let (commands, ends) = (self.senders.commands.clone(), self.senders.ping_ends.clone());
        DIAGNOSTIC.spawn(&self.tasks, |_| async move {
            let outcome = ping::ping(&commands, ping.node, ping.count, ping.interval_ms).await;
            let outcome = outcome.map_err(|fault| fault.reason);
            // The driver is gone only if the agent ends.
            let _ = ends.send(PingEnd(ping.diagnostic, outcome)).await;
        });
    }
}

const LONGEST_PAUSE: Duration = Duration::from_secs(60);
