//! Scenario `planner`: what a version costs the planner, and what a record costs a node.
//!
//! Owns which rows there are and their bars. Measures the cores alone: no sockets, no disks, no database.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rap_planner::{ClusterRows, Plan, plan};

use crate::measure::microseconds_per_call;
use crate::report::{Report, Row};
use crate::scenario;
use crate::scope::{Scope, apply};
use crate::settings::Settings;
use cluster::{changed, key, rows};

/// The fixture of the planner's own criterion bench.
#[path = "../../../control-plane/planner/benches/cluster/mod.rs"]
mod cluster;

/// Every row, in the order of the result: id, unit, bar.
const ROWS: &[(&str, &str, Option<f64>)] = &[
    ("plan_full_2000", "ms", Some(150.0)),
    ("plan_full_10000", "ms", None),
    ("plan_private_10000", "ms", Some(5.0)),
    ("plan_shared_10000", "ms", Some(150.0)),
    ("plan_memory_10000", "MB", Some(150.0)),
    ("update_shared_10000", "us", None),
    ("apply_full_1000", "us", None),
];

/// Runs the scenario.
///
/// # Errors
/// When the memory of this process cannot be read.
pub fn run(settings: &Settings) -> Result<Report> {
    let mut report = scenario::report("planner", settings);
    report.set("rounds", settings.rounds);
    report.set("visibility", "every node sees every other one");
    // Once and first: later plans would use memory that earlier ones gave back.
    let memory = settings.wants(&["plan_memory_10000"]).then(|| memory(10_000)).transpose()?;
    for (id, unit, bar) in ROWS.iter().filter(|(id, ..)| settings.wants(&[id])) {
        eprintln!("{id} ...");
        let (mut runs, mut note) = (Vec::new(), "");
        if let (&"plan_memory_10000", Some(memory)) = (id, memory) {
            (runs, note) = (vec![memory], "resident memory that the plan adds to that of its rows; one run");
        } else {
            for _ in 0..settings.rounds {
                let run;
                (run, note) = measure(id, settings);
                runs.push(run);
            }
        }
        let row = Row::median(id, unit, &runs).note(note);
        report.push(match bar {
            Some(bar) => row.bar(*bar),
            None => row,
        });
    }
    Ok(report)
}

fn measure(id: &str, settings: &Settings) -> (f64, &'static str) {
    let spell = Duration::from_millis(if settings.quick { 60 } else { 250 });
    match id {
        "plan_full_2000" => (full(2_000, spell), "from all rows; processor time"),
        "plan_full_10000" => (full(10_000, spell), "from all rows; processor time"),
        "plan_private_10000" => (
            next(spell, |node| node.tags = vec!["edge".into()]),
            "a change that one node alone sees, from the plan before; processor time",
        ),
        "plan_shared_10000" => (
            next(spell, |node| node.region = "elsewhere".into()),
            "a change that every node sees, from the plan before; processor time",
        ),
        "update_shared_10000" => (update(spell), "one node's update after a shared change; processor time"),
        _ => (
            record(spell),
            "one record of a full update of 1,000 slots in the shipped acceptor, without the disk; processor time",
        ),
    }
}

fn full(nodes: u32, spell: Duration) -> f64 {
    let rows = rows(nodes);
    microseconds_per_call(spell, || (), |()| first(&rows)) / 1e3
}

fn first(rows: &ClusterRows) -> Plan {
    plan(rows, &key()).expect("sound rows")
}

fn after(plan: &Plan, rows: &ClusterRows) -> Plan {
    plan.next(rows, &key()).expect("sound rows").expect("no limit")
}

fn next(spell: Duration, change: impl Fn(&mut rap_planner::NodeRow)) -> f64 {
    let all = rows(10_000);
    let (first, changed) = (first(&all), changed(&all, change));
    microseconds_per_call(spell, || (), |()| after(&first, &changed)) / 1e3
}

fn update(spell: Duration) -> f64 {
    let all = rows(10_000);
    let before = first(&all);
    let second = after(&before, &changed(&all, |node| node.region = "elsewhere".into()));
    let node = all.nodes[1].node;
    microseconds_per_call(spell, || (), |()| second.update(node, before.nodes.get(&node), b"head"))
}

/// Megabytes that a plan adds to this process.
fn memory(nodes: u32) -> Result<f64> {
    let rows = rows(nodes);
    let before = resident()?;
    let plan = first(&rows);
    let after = resident()?;
    drop(plan);
    Ok((after - before).max(0.0))
}

/// Resident megabytes of this process.
fn resident() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS")?;
    Ok(kilobytes / 1024.0)
}

/// Microseconds of one record in an update that brings a whole snapshot.
fn record(spell: Duration) -> f64 {
    const SLOTS: u32 = 1_000;
    let mut scope = Scope::new(SLOTS);
    let prepare = || (scope.empty_acceptor(), scope.whole());
    let work = |(mut acceptor, whole)| {
        apply(&mut acceptor, whole);
        acceptor
    };
    microseconds_per_call(spell, prepare, work) / f64::from(SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_a_plan_takes_memory() {
        let ids: std::collections::BTreeSet<&str> = ROWS.iter().map(|(id, ..)| *id).collect();
        assert_eq!(ids.len(), ROWS.len());
        assert!(memory(2_000).unwrap() > 0.0);
    }
}
