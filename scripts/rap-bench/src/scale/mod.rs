//! Scenario `scale`: a large cluster of connected nodes, one change that one of them sees, one that all see, and
//! many joins at once.
//!
//! Owns which rows there are and their bars. A bar holds at its number of nodes and joins only.

mod burst;

use anyhow::{Context as _, Result};

use crate::changes::{Change, Changes, PAUSE};
use crate::control_plane::ControlPlane;
use crate::machine;
use crate::operator::Operator;
use crate::report::{Report, Row};
use crate::scenario::{self, Measured};
use crate::settings::Settings;
use crate::swarm::{Swarm, Target};

/// Joins in flight at once that the bars of the burst are for.
pub const BURST: u32 = 300;

struct Spec {
    id: &'static str,
    unit: &'static str,
    /// Which of the sorted runs is the value.
    rank: f64,
    bar: Option<f64>,
}

const fn spec(id: &'static str, unit: &'static str, rank: f64, bar: Option<f64>) -> Spec {
    Spec { id, unit, rank, bar }
}

/// Every row, in the order of the result.
const ROWS: &[Spec] = &[
    spec("private_change_1000", "ms", 0.5, Some(20.0)),
    spec("private_change_1000_p99", "ms", 0.99, None),
    spec("shared_change_1000", "ms", 0.5, Some(450.0)),
    spec("shared_change_1000_p99", "ms", 0.99, None),
    spec("joins_burst", "ms", 0.99, Some(10_000.0)),
    spec("joins_burst_p50", "ms", 0.5, None),
    spec("joins_burst_all", "ms", 1.0, Some(15_000.0)),
    spec("joins_burst_heads", "heads", 1.0, Some(8.0)),
    spec("joins_burst_updates", "updates", 1.0, Some(10.0)),
];

/// Runs the scenario. What fails is a row that says so.
///
/// # Errors
/// When the run cannot even begin.
pub fn run(settings: &Settings) -> Result<Report> {
    let nodes = settings.nodes.unwrap_or(NODES);
    machine::allow_open_files(u64::from(nodes + settings.joins) * FILES_PER_NODE + OTHER_FILES)?;
    let mut report = scenario::report("scale", settings);
    report.set("nodes", nodes);
    report.set("joins", settings.joins);
    report.set("raised_limits", "none: every simulated node has a source address of its own");
    let mut measured = Measured::new();
    let failed = scenario::beside_control_plane(settings, async |_, control| {
        measure(settings, nodes, control, &mut measured).await
    })?;
    for spec in ROWS.iter().filter(|spec| settings.wants(&[spec.id])) {
        report.push(row(spec, &measured, failed.as_deref(), nodes == NODES && settings.joins == BURST));
    }
    Ok(report)
}

fn row(spec: &Spec, measured: &Measured, failed: Option<&str>, full: bool) -> Row {
    let row = match measured.get(spec.id) {
        Some((runs, note)) if !runs.is_empty() => {
            Row::percentile(spec.id, spec.unit, spec.rank, runs).note(note)
        }
        _ => Row::unmeasured(spec.id, spec.unit, failed.unwrap_or("no run")),
    };
    match spec.bar {
        Some(bar) if full => row.bar(bar),
        Some(_) | None => row,
    }
}

async fn measure(
    settings: &Settings,
    nodes: u32,
    control: &ControlPlane,
    measured: &mut Measured,
) -> Result<()> {
    let mut operator = Operator::log_in(control).await.context("login")?;
    let cluster = operator.cluster(CLUSTER).await?;
    let token = operator.token(CLUSTER, nodes + settings.joins).await?;
    let target = Target::new(control.address(), &token)?;
    eprintln!("{nodes} simulated nodes ...");
    let mut swarm = Swarm::start(target, nodes as usize, JOINING_AT_ONCE).await.context("swarm")?;

    let count = settings.rounds as usize * if settings.quick { 2 } else { 6 };
    let mut changes = Changes::new(&mut operator, control, (CLUSTER, cluster), &swarm).await?;
    // Unmeasured first: connections and statements are prepared.
    changes.own(0).await?;
    eprintln!("{count} changes that one node sees ...");
    let load = machine::load();
    let mut runs = Vec::new();
    for turn in 0..count {
        runs.push(changes.own(turn + 1).await?);
    }
    let note = format!(
        "a change of one node's tags with {nodes} nodes connected over rap-node/1: from PostgreSQL's commit time of \
         the change (before its flush) until the affected node's shipped acceptor has verified the new snapshot; \
         one change every {} ms; load average before: {load}",
        PAUSE.as_millis()
    );
    insert(measured, ["private_change_1000", "private_change_1000_p99"], &runs, &note);

    eprintln!("{count} changes that all nodes see ...");
    let load = machine::load();
    let mut runs = Vec::new();
    for turn in 0..count {
        runs.push(changes.seen_by_all(turn).await?);
    }
    let note = format!(
        "a change of one node's region, which is in what the other {} nodes hold: until the last of them has \
         verified it (all nodes share one core); load average before: {load}",
        nodes - 1
    );
    insert(measured, ["shared_change_1000", "shared_change_1000_p99"], &runs, &note);
    swarm.require_none_refused()?;

    if settings.wants(&["joins_burst"]) {
        eprintln!("{} joins at once ...", settings.joins);
        burst::measure(settings.joins as usize, control, &mut swarm, measured).await.context("burst")?;
    }
    swarm.stop().await;
    Ok(())
}

fn insert(measured: &mut Measured, ids: [&'static str; 2], runs: &[Change], note: &str) {
    let runs: Vec<f64> = runs.iter().map(|change| change.since_commit_ms).collect();
    for id in ids {
        measured.insert(id, (runs.clone(), note.to_owned()));
    }
}

const NODES: u32 = 1_000;
const CLUSTER: &str = "scale";
/// While the cluster grows; no row is about that.
const JOINING_AT_ONCE: usize = 32;
/// A stream's socket, and those of an enrollment.
const FILES_PER_NODE: u64 = 3;
const OTHER_FILES: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promised_rows_and_bars_are_there() {
        let bars: std::collections::BTreeMap<&str, Option<f64>> =
            ROWS.iter().map(|spec| (spec.id, spec.bar)).collect();
        assert_eq!(bars.len(), ROWS.len());
        for (id, bar) in [
            ("private_change_1000", 20.0),
            ("shared_change_1000", 450.0),
            ("joins_burst", 10_000.0),
            ("joins_burst_all", 15_000.0),
            ("joins_burst_heads", 8.0),
            ("joins_burst_updates", 10.0),
        ] {
            assert_eq!(bars[id], Some(bar), "{id}");
        }
    }

    #[test]
    fn a_bar_is_missed_by_the_largest_run_and_only_holds_at_its_size() {
        let heads = ROWS.iter().find(|spec| spec.id == "joins_burst_heads").unwrap();
        let measured = Measured::from([("joins_burst_heads", (vec![9.0], String::new()))]);
        let json = |full| serde_json::to_value(row(heads, &measured, None, full)).unwrap();
        assert_eq!(json(true)["met"], false);
        assert_eq!(
            (&json(false)["met"], &json(false)["bar"]),
            (&serde_json::Value::Null, &serde_json::Value::Null)
        );
    }
}
