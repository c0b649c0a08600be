//! Whether the database still answers, for the service manager's watchdog.
//!
//! Progress is an answer or an error: a database that is away is not healed by starting this process again, one call
//! that never returns is.

use std::sync::Arc;
use std::time::Duration;

use rap_runtime::service::Beat;

use crate::replica::Replica;

/// Asks until the group is cancelled.
pub async fn watch_database(replica: Arc<Replica>, beat: Beat) {
    let shutdown = replica.tasks.token();
    loop {
        let begun = replica.database.store.system().begin().await;
        match begun {
            Ok(transaction) => {
                drop(transaction);
                let connected: usize = replica
                    .serving
                    .clusters
                    .all()
                    .iter()
                    .map(|cluster| replica.serving.sessions.acknowledged(cluster.id).len())
                    .sum();
                beat.say(format!(
                    "{} clusters, {connected} nodes connected",
                    replica.serving.clusters.all().len()
                ));
            }
            Err(error) => beat.say(format!("no answer ({})", error.reason())),
        }
        beat.turned();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

const EVERY: Duration = Duration::from_secs(5);
