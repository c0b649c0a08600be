//! The newest signed version of a cluster, as every stream of this replica sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rap_planner::Published;
use rap_types::Incarnation;
use tokio::sync::watch;

/// Latest value only: a slow reader skips versions, it never queues them.
#[derive(Debug, Clone)]
pub struct Feed {
    newest: watch::Sender<Option<Arc<Published>>>,
    floor: Arc<AtomicU64>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { newest: watch::Sender::new(None), floor: Arc::default() }
    }
}

impl Feed {
    /// Replaces the newest version, unless its incarnation was ended meanwhile.
    pub fn publish(&self, published: Published) {
        self.newest.send_modify(|newest| {
            if published.order.incarnation.0 >= self.floor.load(Ordering::SeqCst) {
                *newest = Some(Arc::new(published));
            }
        });
    }

    /// Ends every incarnation up to `seen`: what is served of them is withdrawn, and a round that is
    /// under way cannot bring it back.
    pub fn end_incarnation(&self, seen: Incarnation) {
        self.newest.send_modify(|newest| {
            self.floor.fetch_max(seen.0.saturating_add(1), Ordering::SeqCst);
            if newest.as_ref().is_some_and(|published| published.order.incarnation <= seen) {
                *newest = None;
            }
        });
    }

    /// Stops serving: nothing is known to be right.
    pub fn withdraw(&self) {
        self.newest.send_replace(None);
    }

    /// The newest version now.
    pub fn newest(&self) -> Option<Arc<Published>> {
        self.newest.borrow().clone()
    }

    /// Follows the newest version.
    pub fn follow(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.newest.subscribe()
    }
}
