//! What may happen to the memberships of a host, and the handle by which others ask for it.
//!
//! Owns the events. Refuses to carry them out: `crate::run` does.

use rap_runtime::Fault;
use rap_types::Reason;
use tokio::sync::{mpsc, oneshot};

use crate::membership::Wanted;

/// What may happen to the memberships of a host.
#[derive(Debug)]
pub enum HostEvent {
    /// A membership was written and is to run.
    Load(String, oneshot::Sender<Result<(), Fault>>),
    /// A membership is to end for good, its data plane with it; its directory is free afterwards.
    Unload(String, oneshot::Sender<Result<(), Fault>>),
    /// Keys of a membership are to be replaced, by hand (with an answer) or because they are old.
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

    /// Starts a membership that was just written. One that runs already is no error.
    ///
    /// # Errors
    /// Why it does not run.
    pub async fn load(&self, name: &str) -> Result<(), Fault> {
        self.ask(|reply| HostEvent::Load(name.to_owned(), reply)).await
    }

    /// Ends a membership and its data plane. When this returns nothing of it runs and nobody holds its
    /// directory.
    ///
    /// # Errors
    /// `membership.absent`.
    pub async fn unload(&self, name: &str) -> Result<(), Fault> {
        self.ask(|reply| HostEvent::Unload(name.to_owned(), reply)).await
    }

    /// Replaces keys of a membership; it starts anew with them, its data plane goes on meanwhile.
    ///
    /// # Errors
    /// Those of the rotation; the keys before stay in force then.
    pub async fn rotate(&self, name: &str, wanted: Wanted) -> Result<u64, Fault> {
        self.ask(|reply| HostEvent::Rotate(name.to_owned(), wanted, Some(reply))).await
    }

    /// Keys are as old as policy lets them be. Nobody waits for it.
    pub fn keys_are_old(&self, name: &str, wanted: Wanted) {
        // A full queue: it is said again.
        let _ = self.0.try_send(HostEvent::Rotate(name.to_owned(), wanted, None));
    }

    async fn ask<T>(
        &self,
        event: impl FnOnce(oneshot::Sender<Result<T, Fault>>) -> HostEvent,
    ) -> Result<T, Fault> {
        let gone = || Fault::new(Reason::StateIo, "the agent ends");
        let (reply, answer) = oneshot::channel();
        self.0.send(event(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
