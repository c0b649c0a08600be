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
    /// Snapshot updates received so far.
    pub updates: u64,
    began: Option<Stopwatch>,
}

/// All nodes' last words.
#[derive(Debug)]
pub struct Board {
    nodes: Mutex<Vec<Seen>>,
    failure: watch::Sender<Option<String>>,
    changes: watch::Sender<()>,
}

impl Board {
    /// A board without nodes.
    pub fn new() -> Self {
        Self { nodes: Mutex::default(), failure: watch::Sender::new(None), changes: watch::Sender::new(()) }
    }

    /// Adds `count` nodes.
    pub fn add(&self, count: usize) {
        let mut nodes = self.lock();
        let all = nodes.len() + count;
        nodes.resize_with(all, Seen::default);
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

    /// The node was sent a snapshot update.
    pub fn updated(&self, index: usize) {
        self.lock()[index].updates += 1;
    }

    /// The node is gone.
    pub fn fail(&self, index: usize, error: &anyhow::Error) {
        self.failure.send_replace(Some(format!("node {index}: {error:#}")));
    }

    /// Looks at all nodes.
    pub fn look<T>(&self, look: impl FnOnce(&[Seen]) -> T) -> T {
        look(&self.lock())
    }

    /// Waits until each node is `done`, and fails when a node is gone or the deadline passes. A node that is done
    /// is not looked at again: what the nodes share a core with must not grow with their number.
    pub async fn wait(&self, deadline: Duration, done: impl Fn(usize, &Seen) -> bool) -> Result<()> {
        let (mut changes, mut failure) = (self.changes.subscribe(), self.failure.subscribe());
        let mut first = 0;
        let waiting = async {
            loop {
                {
                    let nodes = self.lock();
                    while nodes.get(first).is_some_and(|seen| done(first, seen)) {
                        first += 1;
                    }
                    if first == nodes.len() {
                        return Ok(());
                    }
                }
                changes.changed().await?;
            }
        };
        tokio::select! {
            failed = failure.wait_for(Option::is_some) => {
                bail!(failed?.clone().unwrap_or_default())
            }
            waited = tokio::time::timeout(deadline, waiting) => match waited {
                Ok(outcome) => outcome,
                Err(_) => bail!("not every node was there within {deadline:?}"),
            }
        }
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock()[index]);
        self.changes.send_replace(());
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
        let board = Board::new();
        board.add(2);
        board.verified(1, Some(7), 1);
        let version = |index, seen: &Seen| index == 0 || seen.contents_version == 7;
        board.wait(Duration::from_secs(10), version).await.unwrap();
        board.verified(1, None, 1);
        board.updated(1);
        let last = |seen: &[Seen]| (seen[1].contents_version, seen[1].accepted, seen[1].updates);
        assert_eq!(board.look(last), (7, 2, 1));
        let both = board.wait(Duration::from_secs(10), |_, seen| seen.peers == 1);
        let (waited, ()) = tokio::join!(both, async { board.verified(0, Some(7), 1) });
        waited.unwrap();
        board.fail(0, &anyhow::anyhow!("gone"));
        let error = board.wait(Duration::from_secs(10), |_, _| false).await.unwrap_err();
        assert_eq!(error.to_string(), "node 0: gone");
    }
}
