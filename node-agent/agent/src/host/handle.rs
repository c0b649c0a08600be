//! What may happen to the memberships of a host, and the handle by which others ask for it.
//!
//! Owns the events. Refuses to carry them out: `crate::run` does.

use rap_runtime::Fault;
use rap_types::Reason;
use tokio::sync::{mpsc, oneshot};

use crate::membership::Wanted;
use crate::requests::ask;

/// What may happen to the memberships of a host.
#[derive(Debug)]
pub enum HostEvent {
    /// A membership was written and is to run. The answer says why it does not; one that runs already is no error.
    Load(String, oneshot::Sender<Result<(), Fault>>),
    /// A membership is to end for good, its data plane with it. After the answer nothing of it runs and nobody holds
    /// its directory.
    Unload(String, oneshot::Sender<Result<(), Fault>>),
    /// Keys of a membership are to be replaced, by hand (with an answer) or because they are old. It starts anew with
    /// them, its data plane goes on meanwhile; after an error the keys before stay in force.
    Rotate(String, Wanted, Option<oneshot::Sender<Result<u64, Fault>>>),
    /// The tasks of this start of a membership ended.
    Ended(String, u64),
    /// A membership that failed is to be tried again, if nothing newer happened to it.
    Retry(String, u64),
}

/// A way to the host for others.
#[derive(Debug, Clone)]
pub struct HostHandle(mpsc::Sender<HostEvent>);

impl HostHandle {
    /// A handle to whoever receives these events.
    pub const fn new(events: mpsc::Sender<HostEvent>) -> Self {
        Self(events)
    }

    /// Keys are as old as policy lets them be. Nobody waits for it.
    pub fn keys_are_old(&self, name: &str, wanted: Wanted) {
        // A full queue: it is said again.
        let _ = self.0.try_send(HostEvent::Rotate(name.to_owned(), wanted, None));
    }

    /// Asks for something and waits until it is done.
    ///
    /// # Errors
    /// Why it was not done; `state.io` if the agent ends.
    pub async fn ask<T>(
        &self,
        event: impl FnOnce(oneshot::Sender<Result<T, Fault>>) -> HostEvent,
    ) -> Result<T, Fault> {
        let gone = || Err(Fault::new(Reason::StateIo, "the agent ends"));
        ask(&self.0, event).await.unwrap_or_else(gone)
    }
}
