//! How long a committed change takes to the last affected node, with a swarm connected.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rap_types::ClusterId;

use crate::commits::{Commit, Commits};
use crate::control_plane::ControlPlane;
use crate::measure::time_of_day_ns;
use crate::operator::Operator;
use crate::scenario::Measured;
use crate::settings::Settings;
use crate::swarm::{Seen, Swarm, Target};

/// Measures every row of this part.
pub async fn measure(
    settings: &Settings,
    control: &ControlPlane,
    operator: &mut Operator,
    measured: &mut Measured,
) -> Result<()> {
    let cluster = operator.cluster(CLUSTER).await?;
    let token = operator.token(CLUSTER, settings.nodes).await?;
    let target = Target::new(control.address(), &token)?;
    let swarm = Swarm::start(&target, settings.nodes as usize).await.context("swarm")?;
    let commits = Commits::open(control.data_dir()).await?;
    let mut changes = Changes { operator, commits, cluster, swarm: &swarm, last: 0 };
    changes.last = changes.commits.newest(cluster).await?.version;

    let count = settings.rounds as usize * if settings.quick { 5 } else { 10 };
    let (mut own, mut asked, mut all) = (Vec::new(), Vec::new(), Vec::new());
    // Unmeasured first: connections and statements are prepared.
    changes.own(0).await?;
    for turn in 0..count {
        let change = changes.own(turn + 1).await?;
        own.push(change.since_commit_ms);
        asked.push(change.since_request_ms);
    }
    for turn in 0..count {
        all.push(changes.seen_by_all(turn).await?.since_commit_ms);
    }
    let refused = swarm.board.look(|seen| seen.iter().map(|seen| seen.refused).sum::<u64>());
    anyhow::ensure!(refused == 0, "{refused} messages were refused");

    let nodes = settings.nodes;
    let note = format!(
        "a change of one node's tags with {nodes} nodes connected over rap-node/1: from PostgreSQL's commit time of \
         the change (before its flush) until the affected node's shipped acceptor has verified the new snapshot; \
         one change every {} ms",
        PAUSE.as_millis()
    );
    measured.insert("commit_to_verified_p50", (own.clone(), note));
    measured.insert("commit_to_verified_p99", (own, "the same changes, nearest rank".to_owned()));
    let note = "the same changes, from the operator's call";
    measured.insert("request_to_verified_p50", (asked, note.to_owned()));
    let note = format!(
        "a change of one node's region, which is in what the other {} nodes hold: until the last of them has \
         verified it (all nodes share one core)",
        nodes - 1
    );
    measured.insert("commit_to_all_verified_p50", (all, note));
    let note =
        "simulated nodes, eight at a time: first connection to first verified snapshot, without a disk";
    measured.insert("swarm_join_p50", (swarm.join_ms.clone(), note.to_owned()));
    swarm.stop().await;
    Ok(())
}

struct Changes<'a> {
    operator: &'a mut Operator,
    commits: Commits,
    cluster: ClusterId,
    swarm: &'a Swarm,
    last: u64,
}

struct Change {
    since_commit_ms: f64,
    since_request_ms: f64,
}

impl Changes<'_> {
    /// Changes what one node alone holds.
    async fn own(&mut self, turn: usize) -> Result<Change> {
        let node = self.turn_of(turn);
        tokio::time::sleep(PAUSE).await;
        let began = time_of_day_ns();
        self.operator.set_tags(CLUSTER, &self.swarm.names[node], vec![format!("turn-{turn}")]).await?;
        self.arrival(began, |index| index == node).await
    }

    /// Changes what all other nodes hold of one node.
    async fn seen_by_all(&mut self, turn: usize) -> Result<Change> {
        let node = self.turn_of(turn);
        tokio::time::sleep(PAUSE).await;
        let began = time_of_day_ns();
        self.operator.set_region(CLUSTER, &self.swarm.names[node], format!("region-{turn}")).await?;
        self.arrival(began, |index| index != node).await
    }

    /// Waits until every affected node has verified a newer version, and only then asks the database when
    /// it was committed.
    async fn arrival(&mut self, began: i128, affected: impl Fn(usize) -> bool) -> Result<Change> {
        let last = self.last;
        let affected = |seen: &[Seen]| -> Vec<Seen> {
            let affected = seen.iter().enumerate().filter(|(index, _)| affected(*index));
            affected.map(|(_, seen)| seen.clone()).collect()
        };
        let newer = |seen: &[Seen]| affected(seen).iter().all(|seen| seen.contents_version > last);
        self.swarm.board.wait(ARRIVAL, newer).await?;
        let Commit { version, at_ns } = self.commits.newest(self.cluster).await?;
        let (versions, at) = self.swarm.board.look(|seen| {
            let affected = affected(seen);
            let versions: Vec<u64> = affected.iter().map(|seen| seen.contents_version).collect();
            (versions, affected.iter().map(|seen| seen.verified_at_ns).max())
        });
        anyhow::ensure!(versions.iter().all(|verified| *verified == version), "another change came between");
        self.last = version;
        let verified_at = at.context("nobody was affected")?;
        let ms = |from: i128| (verified_at - from) as f64 / 1e6;
        Ok(Change { since_commit_ms: ms(at_ns), since_request_ms: ms(began) })
    }

    fn turn_of(&self, turn: usize) -> usize {
        turn * 7 % self.swarm.names.len()
    }
}

const CLUSTER: &str = "swarm";
/// Longer than the control plane's debounce, so that each change is published at once.
const PAUSE: Duration = Duration::from_millis(120);
const ARRIVAL: Duration = Duration::from_secs(10);
