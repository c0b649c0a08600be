//! How long a committed change takes to the last affected node, with a swarm connected.

use anyhow::{Context as _, Result};

use crate::changes::{Changes, PAUSE};
use crate::control_plane::ControlPlane;
use crate::operator::Operator;
use crate::scenario::Measured;
use crate::settings::Settings;
use crate::swarm::{Swarm, Target};

/// Measures every row of this part with `nodes` simulated nodes.
pub async fn measure(
    settings: &Settings,
    nodes: u32,
    control: &ControlPlane,
    operator: &mut Operator,
    measured: &mut Measured,
) -> Result<()> {
    let cluster = operator.cluster(CLUSTER).await?;
    let token = operator.token(CLUSTER, nodes).await?;
    let target = Target::new(control.address(), &token)?;
    let swarm = Swarm::start(target, nodes as usize, JOINING_AT_ONCE).await.context("swarm")?;
    let mut changes = Changes::new(operator, control, (CLUSTER, cluster), &swarm).await?;

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
    swarm.require_none_refused()?;

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
    measured.insert("swarm_join_p50", (swarm.join_ms(0), note.to_owned()));
    swarm.stop().await;
    Ok(())
}

const CLUSTER: &str = "swarm";
const JOINING_AT_ONCE: usize = 8;
