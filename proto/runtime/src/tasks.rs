//! Task groups: every long-lived task has a name, an owner and an end.
//!
//! Owns cancellation, draining and the report of what failed. Refuses to own restarts: a supervisor
//! decides whether something is started again.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A tree of named tasks that end together. Clones are the same group.
#[derive(Debug, Clone)]
pub struct TaskGroup {
    group: Arc<Group>,
}

/// A critical task that ended although nobody asked it to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task {task}: {cause}")]
pub struct TaskFailure {
    /// Name given at spawn.
    pub task: &'static str,
    /// Panic message, error text, or that it simply ended.
    pub cause: String,
}

/// What [`TaskGroup::shutdown`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drained {
    /// Tasks that did not end by the deadline and were aborted.
    pub aborted: Vec<&'static str>,
    /// Tasks that did not even yield to the abort; they hold a thread.
    pub stuck: Vec<&'static str>,
    /// First critical task that ended unasked, if any.
    pub failure: Option<TaskFailure>,
}

/// What a task may return: nothing, or a result whose error is logged under the task's name.
pub trait Outcome {
    /// The error text, if it is one.
    fn cause(self) -> Option<String>;
}

impl Outcome for () {
    fn cause(self) -> Option<String> {
        None
    }
}

impl<E: Display> Outcome for Result<(), E> {
    fn cause(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// A task that loops for ever has the type `!`, which stable Rust can only name by a detour.
impl Outcome for <fn() -> ! as Returns>::Output {
    fn cause(self) -> Option<String> {
        self
    }
}

/// What a function type returns.
#[doc(hidden)]
pub trait Returns {
    /// The returned type.
    type Output;
}

impl<T> Returns for fn() -> T {
    type Output = T;
}

impl Default for TaskGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl TaskGroup {
    /// An empty group.
    pub fn new() -> Self {
        Self { group: Arc::new(Group::new(CancellationToken::new(), CancellationToken::new(), None)) }
    }

    /// A group within this one: cancelling this one cancels it, draining this one waits for it.
    /// Cancelling the child leaves this one running.
    pub fn child(&self) -> Self {
        let parent = &self.group;
        let group = Group::new(parent.token.child_token(), parent.abort.child_token(), Some(parent.clone()));
        Self { group: Arc::new(group) }
    }

    /// Fires when the group is to end. Tasks watch it and return.
    pub fn token(&self) -> CancellationToken {
        self.group.token.clone()
    }

    /// Asks every task of the group and its children to end.
    pub fn cancel(&self) {
        self.group.token.cancel();
    }

    /// The first critical task that ended unasked.
    pub fn failure(&self) -> Option<TaskFailure> {
        lock(&self.group.failure).clone()
    }

    /// Starts a task. A panic or an error is logged under its name and ends that task only.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        self.start(name, false, task);
    }

    /// Starts a task that the group cannot live without: if it ends while nobody cancelled the
    /// group, the group is cancelled and [`Self::failure`] says why.
    pub fn spawn_critical<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        self.start(name, true, task);
    }

    /// Cancels, waits up to `deadline` for all tasks, then aborts the rest and waits for that.
    pub async fn shutdown(&self, deadline: Duration) -> Drained {
        let group = &self.group;
        group.token.cancel();
        group.tracker.close();
        let mut drained = Drained::default();
        if tokio::time::timeout(deadline, group.tracker.wait()).await.is_err() {
            drained.aborted = group.running();
            tracing::warn!(tasks = ?drained.aborted, "tasks aborted after the drain deadline");
            group.abort.cancel();
            if tokio::time::timeout(ABORT_WAIT, group.tracker.wait()).await.is_err() {
                drained.stuck = group.running();
                tracing::error!(tasks = ?drained.stuck, "tasks hold a thread and cannot be aborted");
            }
        }
        drained.failure = self.failure();
        drained
    }

    fn start<F>(&self, name: &'static str, critical: bool, task: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let group = self.group.clone();
        let membership = Membership::enter(&group, name);
        group.tracker.clone().spawn(async move {
            let ended = tokio::select! {
                biased;
                () = group.abort.cancelled() => Ok(None),
                ended = AssertUnwindSafe(task).catch_unwind() => ended.map(Outcome::cause),
            };
            let asked = group.token.is_cancelled();
            let cause = match ended {
                Err(panic) => Some(format!("panicked: {}", panic_text(panic.as_ref()))),
                Ok(Some(cause)) => Some(cause),
                Ok(None) if critical && !asked => Some("ended".to_owned()),
                Ok(None) => None,
            };
            if let Some(cause) = cause {
                tracing::error!(task = name, %cause, critical, "task failed");
                if critical {
                    group.fail(TaskFailure { task: name, cause });
                }
            }
            drop(membership);
        });
    }
}

/// Completes on SIGTERM or SIGINT. The handlers are installed by the call, not by the first poll.
pub fn shutdown_signal() -> io::Result<impl Future<Output = &'static str> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

#[derive(Debug)]
struct Group {
    token: CancellationToken,
    abort: CancellationToken,
    tracker: TaskTracker,
    parent: Option<Arc<Group>>,
    names: Mutex<BTreeMap<u64, &'static str>>,
    failure: Mutex<Option<TaskFailure>>,
    next: AtomicU64,
}

impl Group {
    fn new(token: CancellationToken, abort: CancellationToken, parent: Option<Arc<Self>>) -> Self {
        Self {
            token,
            abort,
            tracker: TaskTracker::new(),
            parent,
            names: Mutex::default(),
            failure: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    fn running(&self) -> Vec<&'static str> {
        lock(&self.names).values().copied().collect()
    }

    fn fail(&self, failure: TaskFailure) {
        lock(&self.failure).get_or_insert(failure);
        self.token.cancel();
    }
}

/// Presence of one task in its group and all groups above, so that draining any of them waits.
#[derive(Debug)]
struct Membership(Vec<(Arc<Group>, u64, tokio_util::task::task_tracker::TaskTrackerToken)>);

impl Membership {
    fn enter(group: &Arc<Group>, name: &'static str) -> Self {
        let mut entries = Vec::new();
        let mut next = Some(group);
        while let Some(group) = next {
            let id = group.next.fetch_add(1, Ordering::Relaxed);
            lock(&group.names).insert(id, name);
            entries.push((group.clone(), id, group.tracker.token()));
            next = group.parent.as_ref();
        }
        Self(entries)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        for (group, id, _) in &self.0 {
            lock(&group.names).remove(id);
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Nothing in this file panics while it holds a lock, so a poisoned one is still consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const ABORT_WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test]
    async fn a_task_that_watches_the_token_is_drained_not_aborted() {
        let group = TaskGroup::new();
        let token = group.token();
        group.spawn("watcher", async move { token.cancelled().await });
        assert_eq!(group.shutdown(Duration::from_secs(30)).await, Drained::default());
    }

    #[tokio::test]
    async fn a_task_that_ignores_the_token_is_aborted_by_name() {
        let group = TaskGroup::new();
        let guard = Arc::new(());
        let held = guard.clone();
        group.spawn("deaf", async move {
            pending::<()>().await;
            drop(held);
        });
        let drained = group.shutdown(Duration::ZERO).await;
        assert_eq!(drained.aborted, ["deaf"]);
        assert_eq!(drained.stuck, Vec::<&str>::new());
        assert_eq!(Arc::strong_count(&guard), 1, "the aborted task was awaited, not left behind");
    }

    #[tokio::test]
    async fn a_panic_in_a_plain_task_leaves_the_group_running() {
        let group = TaskGroup::new();
        let (done, ended) = tokio::sync::oneshot::channel::<()>();
        group.spawn("faulty", async move {
            let _done = done;
            panic!("expected by the test");
        });
        assert!(ended.await.is_err());
        assert!(!group.token().is_cancelled());
        assert_eq!(group.failure(), None);
    }

    #[tokio::test]
    async fn a_panic_in_a_critical_task_cancels_the_group_and_is_reported() {
        let group = TaskGroup::new();
        group.spawn_critical("heart", async { panic!("expected by the test") });
        group.token().cancelled().await;
        let failure = TaskFailure { task: "heart", cause: "panicked: expected by the test".into() };
        assert_eq!(group.shutdown(Duration::from_secs(30)).await.failure, Some(failure));
    }

    #[tokio::test]
    async fn a_critical_task_that_just_ends_cancels_the_group() {
        let group = TaskGroup::new();
        group.spawn_critical("heart", async {});
        group.token().cancelled().await;
        assert_eq!(group.failure().unwrap().cause, "ended");
    }

    #[tokio::test]
    async fn a_critical_task_that_ends_when_asked_is_no_failure() {
        let group = TaskGroup::new();
        let token = group.token();
        group.spawn_critical("heart", async move { token.cancelled().await });
        assert_eq!(group.shutdown(Duration::from_secs(30)).await.failure, None);
    }

    #[tokio::test]
    async fn the_error_of_a_critical_task_is_the_cause() {
        let group = TaskGroup::new();
        group.spawn_critical("heart", async { Err::<(), _>("listener gone") });
        group.token().cancelled().await;
        assert_eq!(group.failure().unwrap().to_string(), "task heart: listener gone");
    }

    #[tokio::test]
    async fn a_task_that_never_returns_needs_no_written_type() {
        let group = TaskGroup::new();
        group.spawn_critical("ticker", async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        let drained = group.shutdown(Duration::ZERO).await;
        assert_eq!(drained, Drained { aborted: vec!["ticker"], ..Drained::default() });
    }

    #[tokio::test]
    async fn a_signal_sent_before_the_first_poll_is_not_lost() {
        let signalled = shutdown_signal().unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(signalled.await, "SIGTERM");
    }

    #[tokio::test]
    async fn draining_the_parent_waits_for_tasks_of_children() {
        let group = TaskGroup::new();
        let child = group.child();
        child.spawn("grandchild", pending::<()>());
        drop(child);
        assert_eq!(group.shutdown(Duration::ZERO).await.aborted, ["grandchild"]);
    }

    #[tokio::test]
    async fn cancelling_a_child_leaves_the_parent_running() {
        let group = TaskGroup::new();
        let child = group.child();
        let token = child.token();
        child.spawn("watcher", async move { token.cancelled().await });
        assert_eq!(child.shutdown(Duration::from_secs(30)).await, Drained::default());
        assert!(!group.token().is_cancelled());
    }
}
