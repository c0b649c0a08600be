//! What the simulated nodes have verified, and waiting for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::watch;

use crate::measure::{Stopwatch, time_of_day_ns};

/// One node's last word.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Version under which its contents last changed.
    pub contents_version: u64,
    /// When the acceptor had verified that, nanoseconds since 1970.
    pub verified_at_ns: i128,
    /// Peers in its snapshot.
    pub peers: usize,
    /// Time from first connection to first verified snapshot.
    pub join_ms: Option<f64>,
    /// Snapshots and heads verified so far.
    pub accepted: u64,
    /// Messages refused so far.
    pub refused: u64,
    began: Option<Stopwatch>,
    failure: Option<String>,
}

/// All nodes' last words.
#[derive(Debug)]
pub struct Board {
    nodes: Mutex<Vec<Seen>>,
    changes: watch::Sender<u64>,
}

impl Board {
    /// A board for `count` nodes.
    pub fn new(count: usize) -> Self {
        Self { nodes: Mutex::new(vec![Seen::default(); count]), changes: watch::Sender::new(0) }
    }

    /// The node's join begins.
    pub fn begin(&self, index: usize) {
        self.change(index, |seen| seen.began = Some(Stopwatch::start()));
    }

    /// The node's acceptor has verified a snapshot or a head; `contents` is the version if its leaf changed.
    pub fn verified(&self, index: usize, contents: Option<u64>, peers: usize) {
        let at = time_of_day_ns();
        self.change(index, |seen| {
            seen.accepted += 1;
            seen.peers = peers;
            if let Some(version) = contents {
                seen.contents_version = version;
                seen.verified_at_ns = at;
            }
            if seen.join_ms.is_none() {
                seen.join_ms = seen.began.map(Stopwatch::elapsed_ms);
            }
        });
    }

    /// The node refused a message.
    pub fn refused(&self, index: usize) {
        self.change(index, |seen| seen.refused += 1);
    }

    /// The node is gone.
    pub fn fail(&self, index: usize, error: &anyhow::Error) {
        self.change(index, |seen| seen.failure = Some(format!("node {index}: {error:#}")));
    }

    /// Looks at all nodes.
    pub fn look<T>(&self, look: impl FnOnce(&[Seen]) -> T) -> T {
        look(&self.lock())
    }

    /// Waits until `done`, and fails when a node is gone or the deadline passes.
    pub async fn wait(&self, deadline: Duration, done: impl Fn(&[Seen]) -> bool) -> Result<()> {
        let waiting = async {
            let mut changes = self.changes.subscribe();
            loop {
                {
                    let nodes = self.lock();
                    if let Some(failure) = nodes.iter().find_map(|seen| seen.failure.clone()) {
                        bail!(failure);
                    }
                    if done(&nodes) {
                        return Ok(());
                    }
                }
                changes.changed().await?;
            }
        };
        match tokio::time::timeout(deadline, waiting).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("not every node was there within {deadline:?}"),
        }
    }

    /// Waits until one node satisfies `done`.
    pub async fn wait_for(&self, index: usize, done: impl Fn(&Seen) -> bool) {
        let mut changes = self.changes.subscribe();
        while !done(&self.lock()[index]) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock()[index]);
        self.changes.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_by_its_condition_or_by_a_failure() {
        let board = Board::new(2);
        board.verified(1, Some(7), 1);
        board.wait(Duration::from_secs(10), |seen| seen[1].contents_version == 7).await.unwrap();
        board.verified(1, None, 1);
        assert_eq!(board.look(|seen| (seen[1].contents_version, seen[1].accepted)), (7, 2));
        board.fail(0, &anyhow::anyhow!("gone"));
        let error = board.wait(Duration::from_secs(10), |_| false).await.unwrap_err();
        assert_eq!(error.to_string(), "node 0: gone");
    }
}
