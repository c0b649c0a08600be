//! The task that writes: one write after the other, each on disk before it is answered.
//!
//! Owns the files of a membership while it runs. Refuses to decide what is written.

use rap_runtime::Fault;
use rap_types::Reason;
use tokio::sync::mpsc;

use super::disk::{Write, Written};
use crate::membership::{BreakGlassStore, CertificateStore, Persister};

/// The files of one membership.
pub(super) struct PersistTask {
    /// Snapshots, floors, chain, evidence.
    pub(super) persister: Persister,
    /// Break-glass files; out while they are being written.
    pub(super) break_glass: Option<BreakGlassStore>,
    /// The certificate; out while it is being written.
    pub(super) certificate: Option<CertificateStore>,
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
            if self.written.send(Written(write, outcome)).await.is_err() {
                break;
            }
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
            Write::ApplyBreakGlass(admission, _) => {
                let stored = admission.stored.clone();
                on(&mut self.break_glass, move |store| store.store(stored)).await
            }
            Write::BreakGlass(stored) => {
                let stored = stored.as_ref().clone();
                on(&mut self.break_glass, move |store| store.store(stored)).await
            }
            Write::Checkpoint(held) => self.persister.keep_checkpoint(held).await,
            Write::AuditEvidence(evidence) => self.persister.keep_audit_evidence(evidence).await,
            Write::Certificate(leaf) => {
                let leaf = leaf.clone();
                on(&mut self.certificate, move |store| store.store(leaf)).await
            }
        }
    }
}

/// Works on a file off the threads that serve connections.
async fn on<S: Send + 'static>(
    place: &mut Option<S>,
    work: impl FnOnce(&mut S) -> Result<(), Fault> + Send + 'static,
) -> Result<(), Fault> {
    let lost = || Fault::new(Reason::StateIo, "a write before was cut off");
    let mut store = place.take().ok_or_else(lost)?;
    let written = tokio::task::spawn_blocking(move || {
        let written = work(&mut store);
        (store, written)
    });
    let (store, written) = written.await.map_err(|_| lost())?;
    *place = Some(store);
    written
}
