//! The task that writes: one write after the other, each on disk before it is answered.
//!
//! Owns the files of a membership while it runs. Refuses to decide what is written.

use rap_runtime::Fault;
use rap_trust::StoredBreakGlass;
use tokio::sync::mpsc;

use super::disk::{Write, Written};
use crate::membership::{Kept as _, KeptCheckpoint, Persister, store_grants};

/// The files of one membership.
pub(super) struct PersistTask {
    /// All files.
    pub(super) persister: Persister,
    /// What is to be written.
    pub(super) writes: mpsc::Receiver<Write>,
    /// What became of it.
    pub(super) written: mpsc::Sender<Written>,
}

impl PersistTask {
    /// Runs until the driver is gone. The write that is under way then is carried out; afterwards the cache is
    /// closed.
    pub(super) async fn run(mut self) {
        while let Some(write) = self.writes.recv().await {
            let outcome = self.write(&write).await;
            // Nobody waits for the answer to the last write of all.
            let _ = self.written.send(Written(write, outcome)).await;
        }
        self.persister.close().await;
    }

    async fn write(&mut self, write: &Write) -> Result<(), Fault> {
        match write {
            Write::Record(_, record) => self.persister.write(record).await,
            Write::KeepOnly(snapshot) => {
                self.persister.keep_only(snapshot).await;
                Ok(())
            }
            Write::ApplyBreakGlass(admission, _) => self.grants(admission.stored.clone()).await,
            Write::BreakGlass(stored) | Write::DropBreakGlass(_, stored, _) => {
                self.grants(stored.as_ref().clone()).await
            }
            Write::Checkpoint(held) => {
                let held = held.as_ref().clone();
                self.persister.in_dir(move |dir| KeptCheckpoint::from(held).replace(dir)).await
            }
            Write::AuditEvidence(evidence) => self.persister.keep_audit_evidence(evidence).await,
            Write::Time(time) => {
                let time = time.clone();
                self.persister.in_dir(move |dir| time.store(dir)).await
            }
            Write::Certificate(leaf) => {
                let leaf = leaf.clone();
                self.persister.in_dir(move |dir| leaf.replace(dir)).await
            }
        }
    }

    async fn grants(&self, stored: StoredBreakGlass) -> Result<(), Fault> {
        self.persister.in_dir(move |dir| store_grants(dir, stored)).await
    }
}
