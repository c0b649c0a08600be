//! Answers what others ask of a running membership.
//!
//! Owns what a request does. Refuses to decide who may ask: the local API does.

use rap_contract::encode_export;
use rap_runtime::Fault;
use rap_types::{Activity, Reason};

use super::disk::{BreakGlassReply, Waiting};
use super::driver::Driver;
use super::ping::ping;
use super::tasks::{LEAVE, PING};
use crate::requests::{PingAnswer, Request, StatusAnswer};
use crate::status::{explanation, peer_named, relay_document, status_document};

impl Driver {
    pub(super) fn request(&mut self, request: Request) {
        // Whoever asked may have stopped waiting: unsent answers are dropped.
        match request {
            Request::Status(reply) => drop(reply.send(self.status())),
            Request::Export(reply) => drop(reply.send(self.export())),
            Request::Leave(reply) => {
                let proofs = self.proofs.clone();
                LEAVE.spawn(&self.tasks, |_| async move {
                    drop(reply.send(proofs.leave_anywhere().await));
                });
            }
            Request::BreakGlass { text, reply } => self.break_glass(text, reply),
            Request::DropBreakGlass { digest, reply } => self.drop_grant(&digest, reply),
            Request::Explain { peer, class, down, reply } => {
                let now = self.clock.now();
                drop(reply.send(explanation(&self.node, &peer, class, &down, now)));
            }
            Request::Ping { peer, count, interval_ms, reply } => {
                if let Err(reject) = self.node.permit(Activity::Probe, self.clock.now()) {
                    return drop(reply.send(Err(reject.into())));
                }
                let node = match peer_named(&self.node, &peer, self.clock.now()) {
                    Ok(node) => node,
                    Err(fault) => return drop(reply.send(Err(fault))),
                };
                let commands = self.senders.commands.clone();
                let sense = self.node.sense().cloned();
                let from = self.node.snapshot().map(|snapshot| snapshot.contents().assignment.name.clone());
                let from = from.unwrap_or_default();
                PING.spawn(&self.tasks, |_| async move {
                    let outcome = ping(&commands, node, count, interval_ms).await;
                    drop(reply.send(outcome.map(|outcome| {
                        let via =
                            outcome.via.iter().map(|relay| relay_document(sense.as_deref(), relay)).collect();
                        PingAnswer { from, node, outcome, via }
                    })));
                });
            }
        }
    }

    /// Refused at once if it does not verify; else judged again when its turn to be written comes.
    fn break_glass(&mut self, text: String, reply: BreakGlassReply) {
        match self.node.judge_grant(&text, self.clock.now()).map_err(Fault::from) {
            Ok(_) => self.wait_for_disk(Waiting::BreakGlassText(text, reply)),
            Err(fault) => drop(reply.send(Err(fault))),
        }
    }

    /// It ends at once; the answer says whether the disk knows.
    fn drop_grant(&mut self, named: &str, reply: BreakGlassReply) {
        match self.node.discard_grant(named, self.clock.now()).map_err(Fault::from) {
            Ok(digest) => {
                tracing::warn!(%digest, "an operator of this host dropped a break-glass grant");
                self.wait_for_disk(Waiting::BreakGlassDropped(digest, reply));
            }
            Err(fault) => drop(reply.send(Err(fault))),
        }
    }

    fn status(&self) -> StatusAnswer {
        let failure = self.receivers.certificate_failure.borrow().clone();
        let cache = self.cache.status();
        status_document(&self.facts, &self.node, &self.contact, &cache, failure.as_ref(), self.clock.now())
    }

    fn export(&self) -> Result<Vec<u8>, Fault> {
        let absent = || Fault::new(Reason::SnapshotAbsent, "no verified snapshot yet");
        let snapshot = self.node.snapshot().ok_or_else(absent)?;
        let records =
            self.node.acceptor().pinned().chain.envelopes_until(snapshot.head().order.incarnation.0);
        Ok(encode_export(&self.manifest, &records, snapshot))
    }
}
