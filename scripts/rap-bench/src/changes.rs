//! Changes of nodes while a swarm is connected: how long each takes from its commit to the last affected node.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rap_types::ClusterId;

use crate::commits::{Commit, Commits};
use crate::control_plane::ControlPlane;
use crate::measure::time_of_day_ns;
use crate::operator::Operator;
use crate::swarm::{Seen, Swarm};

/// Changes in one cluster, one after the other.
pub struct Changes<'a> {
    operator: &'a mut Operator,
    commits: Commits,
    name: &'static str,
    cluster: ClusterId,
    swarm: &'a Swarm,
    last: u64,
}

/// How long one change took to the last affected node.
pub struct Change {
    /// From PostgreSQL's commit time, before the flush.
    pub since_commit_ms: f64,
    /// From the operator's call.
    pub since_request_ms: f64,
}

impl<'a> Changes<'a> {
    /// For a cluster, by name and id, whose nodes are those of `swarm` and all connected.
    pub async fn new(
        operator: &'a mut Operator,
        control: &ControlPlane,
        (name, cluster): (&'static str, ClusterId),
        swarm: &'a Swarm,
    ) -> Result<Self> {
        let mut commits = Commits::open(control.data_dir()).await?;
        let last = commits.newest(cluster).await?.version;
        Ok(Self { operator, commits, name, cluster, swarm, last })
    }

    /// Changes what one node alone holds.
    pub async fn own(&mut self, turn: usize) -> Result<Change> {
        let node = self.turn_of(turn);
        tokio::time::sleep(PAUSE).await;
        let began = time_of_day_ns();
        self.operator.set_tags(self.name, &self.swarm.names[node], vec![format!("turn-{turn}")]).await?;
        self.arrival(began, |index| index == node).await
    }

    /// Changes what all other nodes hold of one node.
    pub async fn seen_by_all(&mut self, turn: usize) -> Result<Change> {
        let node = self.turn_of(turn);
        tokio::time::sleep(PAUSE).await;
        let began = time_of_day_ns();
        self.operator.set_region(self.name, &self.swarm.names[node], format!("region-{turn}")).await?;
        self.arrival(began, |index| index != node).await
    }

    /// Waits until every affected node has verified a newer version, and only then asks the database when
    /// it was committed.
    async fn arrival(&mut self, began: i128, affected: impl Fn(usize) -> bool) -> Result<Change> {
        let last = self.last;
        let newer = |index, seen: &Seen| !affected(index) || seen.contents_version > last;
        self.swarm.board.wait(ARRIVAL, newer).await?;
        let Commit { version, at_ns } = self.commits.newest(self.cluster).await?;
        let (same, at) = self.swarm.board.look(|seen| {
            let affected = || seen.iter().enumerate().filter(|(index, _)| affected(*index));
            let same = affected().all(|(_, seen)| seen.contents_version == version);
            (same, affected().map(|(_, seen)| seen.verified_at_ns).max())
        });
        anyhow::ensure!(same, "another change came between");
        self.last = version;
        let verified_at = at.context("nobody was affected")?;
        let ms = |from: i128| (verified_at - from) as f64 / 1e6;
        Ok(Change { since_commit_ms: ms(at_ns), since_request_ms: ms(began) })
    }

    fn turn_of(&self, turn: usize) -> usize {
        turn * 7 % self.swarm.names.len()
    }
}

/// Longer than the control plane's debounce, so that each change is published at once.
pub const PAUSE: Duration = Duration::from_millis(120);
const ARRIVAL: Duration = Duration::from_secs(10);
