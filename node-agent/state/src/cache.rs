//! What can be fetched again: a bounded, crash-tolerant store of opaque values for one membership.
//!
//! Owns the queue and the deadlines in front of the one thread that uses the database. Refuses to own
//! the meaning of values, and to lose floors or keys: those are never here.

mod database;
mod engine;
mod frame;
mod memory_copy;
mod owner;
mod preflight;
mod terms;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rap_types::{ClusterId, Reason};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::error::StateError;
use crate::layout::MembershipDir;
use engine::Engine;
use owner::{Reply, Request};
pub use terms::{CacheLimits, CacheStatus, Change, Failure, Tree};

/// A handle to the cache of one membership. Clones share it; the database closes with the last.
#[derive(Debug, Clone)]
pub struct Cache {
    requests: mpsc::Sender<Request>,
    status: Arc<Mutex<CacheStatus>>,
    call_deadline: Duration,
}

impl Cache {
    /// Opens the cache of a membership within `limits.open_deadline` (twice that, if the first attempt
    /// hangs and an empty database is opened instead). Damage never fails an open; a disk that cannot be
    /// written gives a cache that is empty and says so in [`CacheStatus::failed`].
    pub async fn open(
        dir: &MembershipDir,
        cluster: ClusterId,
        limits: CacheLimits,
    ) -> Result<Self, StateError> {
        if !dir.claim_cache() {
            return Err(StateError::Locked { path: dir.join("cache"), lock_owner: Some(std::process::id()) });
        }
        let status = Arc::new(Mutex::new(CacheStatus::default()));
        let mut requests = owner::start(dir, cluster, limits, None, &status).await;
        if matches!(requests, Err(StateError::Timeout)) {
            let why = format!("opening it took longer than {} ms", limits.open_deadline.as_millis());
            requests = owner::start(dir, cluster, limits, Some(why), &status).await;
        }
        if requests.is_err() {
            dir.release_cache();
        }
        Ok(Self { requests: requests?, status, call_deadline: limits.call_deadline })
    }

    /// How the cache fares.
    pub fn status(&self) -> CacheStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One value.
    pub async fn read(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let key = key.to_vec();
        self.call(move |engine| engine.read(tree, &key)).await
    }

    /// Keys that start with `prefix`, in order, at most `limit`.
    pub async fn keys(&self, tree: Tree, prefix: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, StateError> {
        let prefix = prefix.to_vec();
        self.call(move |engine| engine.keys(tree, &prefix, limit)).await
    }

    /// Applies changes in order: all, or none if the cap would not hold. They reach the disk within a
    /// second, or at the next flush.
    pub async fn write(&self, changes: Vec<Change>) -> Result<(), StateError> {
        self.call(|engine| engine.apply(changes, false)).await
    }

    /// As [`Self::write`], and on disk when it returns.
    pub async fn write_flushed(&self, changes: Vec<Change>) -> Result<(), StateError> {
        self.call(|engine| engine.apply(changes, true)).await
    }

    /// Brings all writes to disk.
    pub async fn flush(&self) -> Result<(), StateError> {
        self.write_flushed(Vec::new()).await
    }

    /// Flushes and closes the database; other handles fail from here on.
    pub async fn close(self) -> Result<(), StateError> {
        self.ask(Request::Close).await
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let request = |reply: Reply<T>| {
            Request::Use(Box::new(move |engine, publish| {
                let answer = work(engine);
                // Before the answer, so that a caller sees the status its call left behind.
                publish(engine);
                // A caller whose deadline passed has dropped its end; the answer is then of no use.
                drop(reply.send(answer));
            }))
        };
        self.ask(request).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StateError> {
        let (reply, answer) = oneshot::channel();
        let request = request(reply);
        let exchange = async {
            // A closed queue and a dropped answer both mean that the owner ended.
            self.requests.send(request).await.map_err(|_| closed())?;
            answer.await.map_err(|_| closed())?
        };
        timeout(self.call_deadline, exchange).await.unwrap_or(Err(StateError::Timeout))
    }
}

fn closed() -> StateError {
    StateError::CacheFailed { reason: Reason::StateIo, text: "closed".to_owned() }
}
