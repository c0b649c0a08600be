//! Dial hints that changed too often are told late. Owns when; the directory says which.

use std::sync::Arc;
use std::time::Duration;

use crate::replica::Replica;

/// Runs until the group is cancelled.
pub async fn tell_hints(replica: Arc<Replica>) {
    let shutdown = replica.tasks.token();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => replica.serving.directory.tell_due(replica.watch.clock.now().mono),
        }
    }
}

const EVERY: Duration = Duration::from_secs(1);
