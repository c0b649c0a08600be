//! The newest signed version of a cluster, as every stream of this replica sees it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rap_planner::{Progress, Published, Turns};
use rap_types::{Incarnation, NodeId};
use tokio::sync::watch;
use tokio::time::Instant;

/// Latest value only: a slow reader skips versions, it never queues them.
#[derive(Debug, Clone)]
pub struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    newest: watch::Sender<Option<Arc<Published>>>,
    floor: AtomicU64,
    turns: Mutex<(Turns, Instant)>,
    /// Changes when the streams that go first, and when all streams, took the newest version.
    progress: watch::Sender<()>,
}

impl Default for Feed {
    fn default() -> Self {
        Self(Arc::new(Shared {
            newest: watch::Sender::new(None),
            floor: AtomicU64::default(),
            turns: Mutex::new((Turns::default(), Instant::now())),
            progress: watch::Sender::new(()),
        }))
    }
}

impl Feed {
    /// Replaces the newest version, unless its incarnation was ended meanwhile.
    pub fn publish(&self, published: Published) {
        tracing::trace!(way = "the version is there for every stream");
        self.0.newest.send_modify(|newest| {
            if published.order.incarnation.0 >= self.0.floor.load(Ordering::SeqCst) {
                let mut turns = self.0.turns();
                turns.0.published(|node| published.plan.nodes.contains_key(&node));
                turns.1 = Instant::now();
                *newest = Some(Arc::new(published));
            }
        });
    }

    /// Ends every incarnation up to `seen`: what is served of them is withdrawn, and a round that is
    /// under way cannot bring it back.
    pub fn end_incarnation(&self, seen: Incarnation) {
        self.0.newest.send_modify(|newest| {
            self.0.floor.fetch_max(seen.0.saturating_add(1), Ordering::SeqCst);
            if newest.as_ref().is_some_and(|published| published.order.incarnation <= seen) {
                *newest = None;
            }
        });
    }

    /// Stops serving: nothing is known to be right.
    pub fn withdraw(&self) {
        self.0.newest.send_replace(None);
    }

    /// Has every stream look again at what it stands on.
    pub fn look_again(&self) {
        self.0.newest.send_modify(|_| {});
    }

    /// The newest version now.
    pub fn newest(&self) -> Option<Arc<Published>> {
        self.0.newest.borrow().clone()
    }

    /// Follows the newest version.
    pub fn follow(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.0.newest.subscribe()
    }

    /// The place of a node's stream among the others; `holds` if the node has a snapshot.
    pub fn open(&self, node: NodeId, holds: bool) -> Turn {
        let progress = self.0.progress.subscribe();
        let number = self.0.turns().0.open(node, holds);
        Turn { shared: self.0.clone(), number, progress }
    }

    /// When the newest version was published; before the first, when this was made.
    pub fn published_at(&self) -> Instant {
        self.0.turns().1
    }

    /// Waits until every stream took the newest version, at most until 250 ms after it was published.
    pub async fn taken(&self) {
        let mut progress = self.0.progress.subscribe();
        let by = self.0.turns().1 + TAKEN_WITHIN;
        let all_took = async { while !self.0.turns().0.all_took() && progress.changed().await.is_ok() {} };
        // Slow streams get what is newest then.
        let _ = tokio::time::timeout_at(by, all_took).await;
    }
}

impl Shared {
    fn turns(&self) -> MutexGuard<'_, (Turns, Instant)> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, progress: Progress) {
        if progress != Progress::default() {
            self.progress.send_replace(());
        }
    }
}

/// One stream's place. Dropped, nobody waits for it.
#[derive(Debug)]
pub struct Turn {
    shared: Arc<Shared>,
    number: u64,
    progress: watch::Receiver<()>,
}

impl Turn {
    /// Until when this stream leaves the newest version to streams that go first; `None` if it need not.
    pub fn held_until(&self) -> Option<Instant> {
        let turns = self.shared.turns();
        let until = turns.1 + FIRST_WITHIN;
        (!turns.0.may_take(self.number) && Instant::now() < until).then_some(until)
    }

    /// This stream took the newest version; `holds` if its node has a snapshot now.
    pub fn took(&self, holds: bool) {
        let progress = self.shared.turns().0.took(self.number, holds);
        self.shared.tell(progress);
    }

    /// Waits until the streams that go first, or all, took a version.
    pub async fn progress(&mut self) {
        // The sender lives as long as this: it is in the same allocation.
        let _ = self.progress.changed().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let progress = self.shared.turns().0.close(self.number);
        self.shared.tell(progress);
    }
}

/// The next version waits no longer for streams that are slow.
const TAKEN_WITHIN: Duration = Duration::from_millis(250);
/// Streams of nodes with a snapshot wait no longer for those without.
const FIRST_WITHIN: Duration = Duration::from_millis(100);
