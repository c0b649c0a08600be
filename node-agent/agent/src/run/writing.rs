//! The driver's side of the disk: what is written next, and what follows from a write that ended.
//!
//! Owns which input tells the cores of it. Refuses to write: the persist task does.

use rap_node::Input;
use rap_runtime::Fault;
use rap_trust::{Admission, PersistId};
use rap_types::{Digest, Reason};

use super::disk::{BreakGlassReply, Waiting, Write, Written};
use super::driver::Driver;
use crate::status::grant_document;

impl Driver {
    /// Puts it into the queue of the disk. What does not fit is as good as a write that failed.
    pub(super) fn wait_for_disk(&mut self, waiting: Waiting) {
        let Err(refused) = self.disk.add(waiting) else { return };
        let behind = Fault::new(Reason::StateTimeout, "the disk is behind");
        match refused {
            Waiting::Ready(Write::Record(id, _)) => self.feed(Input::PersistFailed(id, behind.reason)),
            // Whoever asked may have stopped waiting.
            Waiting::BreakGlassText(_, reply) | Waiting::BreakGlassDropped(_, reply) => {
                drop(reply.send(Err(behind)));
            }
            // The control plane says the others again.
            Waiting::Ready(_) | Waiting::BreakGlassAcknowledged => {
                tracing::warn!(reason = %behind.reason, "the disk is behind; a write was dropped");
            }
        }
    }

    /// Hands the next write to the persist task, if none is under way.
    pub(super) fn begin_write(&mut self) {
        while let Some(next) = self.disk.next() {
            let write = match next {
                Waiting::Ready(write) => write,
                Waiting::BreakGlassAcknowledged => {
                    Write::BreakGlass(Box::new(self.node.stored_break_glass()))
                }
                Waiting::BreakGlassDropped(digest, reply) => {
                    Write::DropBreakGlass(digest, Box::new(self.node.stored_break_glass()), reply)
                }
                Waiting::BreakGlassText(text, reply) => {
                    match self.node.judge_grant(&text, self.clock.now()).map_err(Fault::from) {
                        Ok(admission) => Write::ApplyBreakGlass(Box::new(admission), reply),
                        Err(fault) => {
                            drop(reply.send(Err(fault)));
                            continue;
                        }
                    }
                }
            };
            self.disk.begin(write, self.clock.now().mono);
            self.contact.write_since = self.disk.since();
        }
    }

    /// A write ended.
    ///
    /// # Errors
    /// `state.io` for a record: after a failed write or fsync nobody knows what is on the disk.
    pub(super) fn written(&mut self, Written(write, outcome): Written) -> Result<(), Fault> {
        self.disk.ended();
        self.contact.write_since = None;
        match write {
            Write::Record(id, record) => return self.recorded(id, record.snapshot.is_some(), outcome),
            Write::ApplyBreakGlass(admission, reply) => self.applied(*admission, reply, outcome),
            Write::DropBreakGlass(digest, _, reply) => {
                let answer = outcome.and_then(|()| self.grant(digest));
                // Whoever asked may have stopped waiting.
                drop(reply.send(answer));
            }
            Write::Checkpoint(held) if outcome.is_ok() => self.feed(Input::CheckpointKept(held)),
            Write::KeepOnly(_)
            | Write::BreakGlass(_)
            | Write::Checkpoint(_)
            | Write::AuditEvidence(_)
            | Write::Certificate(_)
            | Write::Time(_) => {
                // Whatever it is comes again: another certificate is issued after a restart, and the control
                // plane repeats checkpoints and acknowledgements.
                if let Err(fault) = outcome {
                    tracing::error!(reason = %fault.reason, error = %fault, "a file could not be written");
                }
            }
        }
        Ok(())
    }

    fn recorded(&mut self, id: PersistId, activates: bool, outcome: Result<(), Fault>) -> Result<(), Fault> {
        match outcome {
            Ok(()) => {
                (self.contact.disk, self.contact.overlap) = (None, None);
                tracing::trace!(way = "the snapshot is on disk");
                self.feed(Input::Persisted(id));
                if activates {
                    self.activated();
                }
            }
            Err(fault) if fault.reason == Reason::StateIo => return Err(fault),
            Err(fault) => {
                tracing::error!(reason = %fault.reason, error = %fault, "a snapshot could not be stored");
                self.contact.disk = Some(fault.reason);
                self.feed(Input::PersistFailed(id, fault.reason));
            }
        }
        Ok(())
    }

    /// A break-glass file counts once it is on disk.
    fn applied(&mut self, admission: Admission, reply: BreakGlassReply, outcome: Result<(), Fault>) {
        let digest = admission.grant.digest();
        let answer = outcome.and_then(|()| {
            let (permit, signer) = (admission.grant.permit(), admission.grant.by().as_str());
            tracing::error!(alarm = true, %digest, permit, signer, reason = admission.grant.reason(), "break-glass grant applied");
            self.feed(Input::BreakGlassStored(Box::new(admission)));
            self.grant(digest)
        });
        // Whoever asked may have stopped waiting.
        drop(reply.send(answer));
    }

    /// A grant that is held, as status shows it.
    fn grant(&self, digest: Digest) -> Result<serde_json::Value, Fault> {
        let wall = self.node.acceptor().clock().wall(self.clock.now());
        let view = self.node.grants().find(|view| view.stored.digest == digest);
        view.map(|view| grant_document(&view, wall))
            .ok_or_else(|| Fault::new(Reason::StateIo, "the grant is not held"))
    }
}
