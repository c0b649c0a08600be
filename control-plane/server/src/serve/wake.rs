//! Tells a cluster's publisher that rows changed, and whether the change may wait for others.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// The wake of one publisher. Wakes while it works are one wake.
#[derive(Debug, Default)]
pub struct Wake {
    changed: Notify,
    urged: Notify,
    urgent: AtomicBool,
}

impl Wake {
    /// Rows changed.
    pub fn changed(&self) {
        self.changed.notify_one();
    }

    /// Rows changed by a revocation or a new key: the publisher gathers no further changes first.
    pub fn urgent(&self) {
        self.urgent.store(true, Ordering::SeqCst);
        self.urged.notify_one();
        self.changed.notify_one();
    }

    /// Waits until rows changed.
    pub async fn woken(&self) {
        self.changed.notified().await;
    }

    /// Waits until an urgent change comes. One that came before may end the wait too.
    pub async fn urged(&self) {
        self.urged.notified().await;
    }

    /// Whether an urgent change waits.
    pub fn is_urgent(&self) -> bool {
        self.urgent.load(Ordering::SeqCst)
    }

    /// The rows are read from now on: what becomes urgent later is another change.
    pub fn begin(&self) {
        self.urgent.store(false, Ordering::SeqCst);
    }
}
