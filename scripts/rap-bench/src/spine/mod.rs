//! Scenario `spine`: join, distribution, cold start, memory, and the cores' own costs.
//!
//! Owns which rows there are, their bars and their order. A part that fails leaves its rows unmeasured, with
//! the reason.

mod changes;
mod hosts;
mod micro;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::control_plane::ControlPlane;
use crate::operator::Operator;
use crate::report::{Report, Row};
use crate::scenario::{self, Measured};
use crate::settings::Settings;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Hosts,
    Swarm,
    Micro,
}

struct Spec {
    id: &'static str,
    part: Part,
    unit: &'static str,
    bar: Option<f64>,
    /// Which of the sorted runs is the value; `None` for the median.
    rank: Option<f64>,
}

const fn spec(id: &'static str, part: Part, unit: &'static str, bar: Option<f64>) -> Spec {
    Spec { id, part, unit, bar, rank: None }
}

/// Every row, in the order of the result.
const ROWS: &[Spec] = &[
    spec("join_p50", Part::Hosts, "ms", Some(1000.0)),
    Spec { rank: Some(0.99), ..spec("join_p99", Part::Hosts, "ms", None) },
    spec("swarm_join_p50", Part::Swarm, "ms", None),
    spec("commit_to_verified_p50", Part::Swarm, "ms", Some(15.0)),
    Spec { rank: Some(0.99), ..spec("commit_to_verified_p99", Part::Swarm, "ms", None) },
    spec("commit_to_all_verified_p50", Part::Swarm, "ms", None),
    spec("request_to_verified_p50", Part::Swarm, "ms", None),
    spec("cold_start_to_overlay", Part::Hosts, "ms", None),
    spec("agent_rss_idle", Part::Hosts, "MB", Some(30.0)),
    spec("dataplane_rss_idle", Part::Hosts, "MB", Some(20.0)),
    spec("sign_head", Part::Micro, "us", None),
    spec("verify_head", Part::Micro, "us", None),
    spec("apply_delta", Part::Micro, "us", Some(200.0)),
    spec("apply_delta_10000", Part::Micro, "us", Some(200.0)),
];

/// Runs the scenario. What fails is a row that says so.
///
/// # Errors
/// When the run cannot even begin.
pub fn run(settings: &Settings) -> Result<Report> {
    let mut report = scenario::report("spine", settings);
    report.set("rounds", settings.rounds);
    report.set("nodes", nodes(settings));
    report.set("raised_limits", "none: every simulated node has a source address of its own");
    let mut measured = Measured::new();
    let mut failures = BTreeMap::new();
    if wanted(settings, Part::Micro) {
        eprintln!("cores ...");
        micro::measure(settings, &mut measured);
    }
    if wanted(settings, Part::Hosts) || wanted(settings, Part::Swarm) {
        let failed = scenario::beside_control_plane(settings, async |folder, control| {
            parts(settings, folder, control, &mut measured, &mut failures).await
        })?;
        for part in [Part::Hosts, Part::Swarm] {
            if let Some(failed) = &failed {
                failures.entry(part).or_insert_with(|| failed.clone());
            }
        }
    }
    for spec in ROWS.iter().filter(|spec| settings.wants(&[spec.id])) {
        report.push(row(spec, &measured, failures.get(&spec.part)));
    }
    Ok(report)
}

fn nodes(settings: &Settings) -> u32 {
    settings.nodes.unwrap_or(100)
}

fn wanted(settings: &Settings, part: Part) -> bool {
    ROWS.iter().any(|spec| spec.part == part && settings.wants(&[spec.id]))
}

fn row(spec: &Spec, measured: &Measured, failure: Option<&String>) -> Row {
    let row = match measured.get(spec.id) {
        Some((runs, note)) if !runs.is_empty() => {
            let row = match spec.rank {
                Some(rank) => Row::percentile(spec.id, spec.unit, rank, runs),
                None => Row::median(spec.id, spec.unit, runs),
            };
            row.note(note)
        }
        _ => Row::unmeasured(spec.id, spec.unit, failure.map_or("no run", String::as_str)),
    };
    match spec.bar {
        Some(bar) => row.bar(bar),
        None => row,
    }
}

async fn parts(
    settings: &Settings,
    folder: &Path,
    control: &ControlPlane,
    measured: &mut Measured,
    failures: &mut BTreeMap<Part, String>,
) -> Result<()> {
    let mut operator = Operator::log_in(control).await.context("login")?;
    if wanted(settings, Part::Hosts) {
        eprintln!("hosts ...");
        if let Err(error) = hosts::measure(settings, folder, &mut operator, measured).await {
            failures.insert(Part::Hosts, format!("{error:#}"));
        }
    }
    if wanted(settings, Part::Swarm) {
        let nodes = nodes(settings);
        eprintln!("{nodes} simulated nodes ...");
        if let Err(error) = changes::measure(settings, nodes, control, &mut operator, measured).await {
            failures.insert(Part::Swarm, format!("{error:#}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_the_promised_rows_are_there() {
        let ids: std::collections::BTreeSet<&str> = ROWS.iter().map(|spec| spec.id).collect();
        assert_eq!(ids.len(), ROWS.len());
        for id in [
            "join_p50",
            "join_p99",
            "commit_to_verified_p50",
            "cold_start_to_overlay",
            "agent_rss_idle",
            "dataplane_rss_idle",
            "sign_head",
            "verify_head",
            "apply_delta",
        ] {
            assert!(ids.contains(id), "{id}");
        }
    }

    #[test]
    fn a_row_without_runs_says_why_and_is_neither_met_nor_missed() {
        let join = &ROWS[0];
        let json = |row: Row| serde_json::to_value(row).unwrap();
        let failed = json(row(join, &Measured::new(), Some(&"no PostgreSQL".to_owned())));
        assert_eq!((&failed["met"], &failed["bar"]), (&serde_json::Value::Null, &1000.0.into()));
        assert_eq!(failed["note"], "not measured: no PostgreSQL");
        let measured = Measured::from([("join_p50", (vec![1200.0], "note".to_owned()))]);
        assert_eq!(json(row(join, &measured, None))["met"], false);
    }
}
