//! Answers what others ask of a running membership.
//!
//! Owns what a request does. Refuses to decide who may ask: the local API does.

use rap_contract::encode_export;
use rap_node::Input;
use rap_runtime::Fault;
use rap_trust::StoredGrants;
use rap_types::{Activity, Reason};

use super::driver::Driver;
use super::ping::ping;
use crate::requests::{Request, StatusAnswer};
use crate::status::{grant_document, status_document};

impl Driver {
    pub(super) async fn request(&mut self, request: Request) {
        // Whoever asked may have stopped waiting: unsent answers are dropped.
        match request {
            Request::Status(reply) => drop(reply.send(self.status())),
            Request::Export(reply) => drop(reply.send(self.export())),
            Request::Leave(reply) => {
                let certificates = self.certificates.clone();
                self.tasks.spawn("leave", async move {
                    drop(reply.send(certificates.leave_anywhere().await));
                });
            }
            Request::BreakGlass { text, reply } => drop(reply.send(self.break_glass(&text).await)),
            Request::Ping { peer, count, interval_ms, reply } => {
                if let Err(reject) = self.node.permit(Activity::Probe, self.clock.now()) {
                    return drop(reply.send(Err(crate::fault::refused(reject))));
                }
                let Some(node) = self.node.peer(&peer, self.clock.now()) else {
                    let fault = Fault::new(Reason::NodeUnknown, format!("no peer `{peer}` in the snapshot"));
                    return drop(reply.send(Err(fault)));
                };
                let commands = self.mouths.commands.clone();
                self.tasks.spawn("ping", async move {
                    let outcome = ping(&commands, node, count, interval_ms).await;
                    drop(reply.send(outcome.map(|outcome| (node, outcome))));
                });
            }
        }
    }

    /// Verify, write, then use: a grant that is not on disk does not count.
    async fn break_glass(&mut self, text: &str) -> Result<serde_json::Value, Fault> {
        let admission = self.node.judge_grant(text, self.clock.now()).map_err(crate::fault::refused)?;
        let digest = admission.grant.digest();
        self.store_grants(admission.stored.clone()).await?;
        let (permit, signer) = (admission.grant.permit(), admission.grant.by().as_str());
        tracing::error!(alarm = true, %digest, permit, signer, reason = admission.grant.reason(), "break-glass grant applied");
        self.feed(Input::GrantStored(Box::new(admission)));
        let now = self.clock.now();
        let view = self.node.grants().find(|view| view.stored.digest == digest);
        view.map(|view| grant_document(&view, self.node.acceptor().clock().wall(now)))
            .ok_or_else(|| Fault::new(Reason::StateIo, "the grant is not held"))
    }

    pub(super) async fn store_grants(&mut self, stored: StoredGrants) -> Result<(), Fault> {
        let busy = || Fault::new(Reason::StateIo, "the grants are not open");
        let mut store = self.grant_store.take().ok_or_else(busy)?;
        let (store, written) = tokio::task::spawn_blocking(move || {
            let written = store.store(stored);
            (store, written)
        })
        .await
        .map_err(|_| Fault::new(Reason::StateIo, "the write of the grants was cut off"))?;
        self.grant_store = Some(store);
        written
    }

    fn status(&self) -> StatusAnswer {
        let failure = self.ears.certificate_failure.borrow().clone();
        let cache = self.persister.cache_status();
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
