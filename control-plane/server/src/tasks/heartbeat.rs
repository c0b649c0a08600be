//! The heartbeat of this replica: every 2 s a new connection, a committed row, the end of the connection.
//!
//! Owns when. What follows is `watch/readiness`. Progress for the service manager's watchdog is an end of each
//! heartbeat, good or bad: a database that is away is not healed by starting this process again.

use std::sync::Arc;
use std::time::Duration;

use rap_runtime::service::Beat;
use rap_store::{DatabaseTarget, heartbeat_commit};
use rap_types::Reason;

use crate::replica::Replica;
use crate::watch::handle::Watch;
use crate::watch::readiness::WITHIN;

/// The heartbeat of this process.
#[derive(Debug)]
pub struct Heartbeat {
    target: DatabaseTarget,
    replica: [u8; 16],
    /// The last one was given up and its connection may still be there.
    abandoned: bool,
}

impl Heartbeat {
    /// The heartbeat of this replica in this database.
    pub const fn new(target: DatabaseTarget, replica: [u8; 16]) -> Self {
        Self { target, replica, abandoned: false }
    }

    /// Commits one, or records why not.
    pub async fn commit(&mut self, watch: &Watch) {
        let committing = heartbeat_commit(&self.target, self.replica, self.abandoned);
        let committed = tokio::time::timeout(WITHIN, committing).await;
        self.abandoned = committed.is_err();
        match committed {
            Ok(Ok(())) => watch.readiness.committed(watch.clock.now().mono),
            Ok(Err(error)) => watch.readiness.failed(error.reason()),
            Err(_) => watch.readiness.failed(Reason::StoreUnavailable),
        }
    }

    /// Commits one after the other until the group is cancelled.
    pub async fn keep(mut self, replica: Arc<Replica>, beat: Beat) {
        let shutdown = replica.tasks.token();
        let mut before = Ok(());
        loop {
            self.commit(&replica.watch).await;
            let ready = replica.watch.readiness.check(replica.watch.clock.now().mono);
            match ready {
                Ok(()) => beat.say(in_short(&replica)),
                Err(reason) => beat.say(format!("not ready ({reason})")),
            }
            match (before, ready) {
                (Ok(()), Err(reason)) => {
                    tracing::warn!(%reason, "not ready: no new connection could write to the database");
                }
                (Err(_), Ok(())) => tracing::info!("ready again: the database can be written to"),
                (Ok(()), Ok(())) | (Err(_), Err(_)) => {}
            }
            before = ready;
            beat.turned();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }
}

fn in_short(replica: &Replica) -> String {
    let clusters = replica.serving.clusters.all();
    let connected: usize =
        clusters.iter().map(|cluster| replica.serving.sessions.acknowledged(cluster.id).len()).sum();
    format!("{} clusters, {connected} nodes connected", clusters.len())
}

const EVERY: Duration = Duration::from_secs(2);
