//! Many joins in flight at once beside the connected nodes.
//!
//! Owns the counters before and after: what the control plane says it sent is what the nodes received.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::control_plane::ControlPlane;
use crate::machine;
use crate::measure::Stopwatch;
use crate::scenario::Measured;
use crate::swarm::Swarm;

/// Measures every row of this part.
pub async fn measure(
    joins: usize,
    control: &ControlPlane,
    swarm: &mut Swarm,
    measured: &mut Measured,
) -> Result<()> {
    let load = machine::load();
    let (heads, sent) = counters(control).await?;
    let received = updates(swarm);
    let first = swarm.names.len();
    let watch = Stopwatch::start();
    swarm.join(joins, joins);
    swarm.know_each_other(DEADLINE).await?;
    let took = watch.elapsed_ms();
    let (heads_after, sent_after) = counters(control).await?;
    swarm.require_none_refused()?;

    let of_each: Vec<f64> = updates(swarm)
        .iter()
        .enumerate()
        .map(|(index, after)| (after - received.get(index).unwrap_or(&0)) as f64)
        .collect();
    let (sent, received) = (sent_after - sent, of_each.iter().sum::<f64>());
    ensure!(sent == received, "{sent} updates were sent and {received} received");
    let (joined, all) = (swarm.join_ms(first), swarm.names.len());
    ensure!(joined.len() == joins, "{} of {joins} joins have a time", joined.len());

    let note = format!(
        "{joins} joins in flight at once beside {first} connected nodes: each from its first connection to its first \
         verified snapshot, without a disk; load average before: {load}"
    );
    measured.insert("joins_burst_p50", (joined.clone(), note.clone()));
    measured.insert("joins_burst", (joined, note + "; 99th percentile, nearest rank"));
    let note = format!(
        "the same burst, from its start until each of the {all} nodes has verified a snapshot that names all {all}"
    );
    measured.insert("joins_burst_all", (vec![took], note));
    let note = "heads that the control plane signed meanwhile, by its counter";
    measured.insert("joins_burst_heads", (vec![heads_after - heads], note.to_owned()));
    let most = of_each.iter().copied().fold(0.0, f64::max);
    let note = format!(
        "the most snapshot updates that one node received meanwhile; {sent} in all, by the control plane's counter and by the nodes"
    );
    measured.insert("joins_burst_updates", (vec![most], note));
    Ok(())
}

/// Heads signed and updates sent since the control plane started.
async fn counters(control: &ControlPlane) -> Result<(f64, f64)> {
    let heads = control.counter("rap_control_heads_signed_total").await.context("heads")?;
    Ok((heads, control.counter("rap_control_updates_sent_total").await.context("updates")?))
}

fn updates(swarm: &Swarm) -> Vec<u64> {
    swarm.board.look(|seen| seen.iter().map(|seen| seen.updates).collect())
}

const DEADLINE: Duration = Duration::from_secs(180);
