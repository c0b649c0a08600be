//! Carries out what the node's cores want, in order.
//!
//! Owns the order. Refuses to decide: `rap_node::Node` does.

use std::sync::Arc;
use std::time::Duration;

use rap_contract::VerifiedSnapshot;
use rap_node::{Input, Output, RunPing};
use rap_runtime::Fault;
use rap_trust::{PersistId, Pools, Record};
use rap_types::Reason;
use rap_wire::v1;

use super::driver::Driver;
use super::ping::{self, PingEnd};
use crate::control_plane::Pause;

impl Driver {
    /// Carries out what the cores want, in order. A write is waited for: nothing overtakes the disk.
    pub(super) async fn carry_out(&mut self) -> Result<(), Fault> {
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

    pub(super) async fn activated(&mut self) {
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
            let outcome = ping::ping(&commands, ping.node, ping.count, ping.interval_ms).await;
            let outcome = outcome.map_err(|fault| fault.reason);
            // The driver is gone only if the agent ends.
            let _ = ends.send(PingEnd(ping.diagnostic, outcome)).await;
        });
    }
}

const LONGEST_PAUSE: Duration = Duration::from_secs(60);
