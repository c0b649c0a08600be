//! The thread that owns the database: opens it, serves requests in order, flushes when idle.
//!
//! A thread, not a task: sled blocks, and a database that hangs must not hold a runtime's worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rap_types::{ClusterId, Reason};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::engine::Engine;
use super::terms::{CacheLimits, CacheStatus, Failure};
use crate::error::StateError;
use crate::layout::MembershipDir;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StateError>>;

/// One use of the database. It calls the function when the status is to be published: after the use, before the answer.
pub(crate) type Use = Box<dyn FnOnce(&mut Engine, &dyn Fn(&Engine)) + Send>;

/// What the queue carries.
pub(crate) enum Request {
    Use(Use),
    Close(Reply<()>),
}

/// Starts the owner and waits until the database is open. After `state.timeout` the thread is on its
/// own: if it ever gets an open database it closes it.
pub(crate) async fn start(
    dir: &MembershipDir,
    cluster: ClusterId,
    limits: CacheLimits,
    discard: Option<String>,
    status: &Arc<Mutex<CacheStatus>>,
) -> Result<mpsc::Sender<Request>, StateError> {
    let (requests, queue) = mpsc::channel(limits.queue);
    let (ready, opened) = oneshot::channel();
    let abandoned = Arc::new(AtomicBool::new(false));
    let paths = (dir.join("cache"), dir.join("quarantine-1"));
    let mut owner =
        Owner { claim: Some(dir.clone()), status: status.clone(), abandoned: abandoned.clone(), queue };
    let thread = std::thread::Builder::new().name("rap-cache".to_owned());
    let started = thread.spawn(move || {
        let engine = Engine::open(paths, cluster, limits, discard, owner.abandoned.clone());
        // Before the caller goes on: it reads the status first of all.
        owner.publish(&engine);
        if ready.send(()).is_ok() {
            owner.serve(engine);
        }
    });
    started.map_err(|error| Failure { reason: Reason::StateIo, text: format!("no thread: {error}") })?;
    match timeout(limits.open_deadline, opened).await {
        Ok(Ok(())) => Ok(requests),
        Ok(Err(_)) => {
            Err(Failure { reason: Reason::StateIo, text: "the owner ended while opening".to_owned() }.into())
        }
        Err(_) => {
            abandoned.store(true, Ordering::Release);
            Err(StateError::Timeout)
        }
    }
}

struct Owner {
    /// The claim on the cache, and with it a share of the membership's lock.
    claim: Option<MembershipDir>,
    status: Arc<Mutex<CacheStatus>>,
    abandoned: Arc<AtomicBool>,
    queue: mpsc::Receiver<Request>,
}

impl Owner {
    fn serve(&mut self, mut engine: Engine) {
        // Only for the timer of the flush; the work itself blocks.
        let Ok(runtime) = Builder::new_current_thread().enable_time().build() else { return };
        let mut flush_at = None;
        loop {
            let next = runtime.block_on(async {
                match flush_at {
                    Some(instant) => timeout_at(instant, self.queue.recv()).await,
                    None => Ok(self.queue.recv().await),
                }
            });
            match next {
                Ok(Some(Request::Close(reply))) => return self.close(engine, reply),
                Ok(Some(Request::Use(work))) => work(&mut engine, &|engine| self.publish(engine)),
                Ok(None) => break,
                // The engine has logged and recorded its failure.
                Err(_due) => drop(engine.flush()),
            }
            self.publish(&engine);
            flush_at = match flush_at {
                _ if !engine.is_dirty() => None,
                // Kept only while it is to come: a steady stream of calls must not put it off.
                Some(instant) => Some(instant),
                None => Some(Instant::now() + FLUSH_WITHIN),
            };
        }
        drop(engine.close());
        self.publish(&engine);
    }

    fn close(&mut self, mut engine: Engine, reply: Reply<()>) {
        let closed = engine.close();
        self.publish(&engine);
        drop(engine);
        self.release();
        // Nobody may be waiting any more; the answer is then of no use.
        let _ = reply.send(closed);
    }

    fn publish(&self, engine: &Engine) {
        if !self.abandoned.load(Ordering::Acquire) {
            engine.status().clone_into(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Ends the claim on the cache once, and not that of a successor.
    fn release(&mut self) {
        self.queue.close();
        let Some(dir) = self.claim.take() else { return };
        if !self.abandoned.load(Ordering::Acquire) {
            dir.release_cache();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.release();
    }
}

/// Longest time a write stays in memory.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);
