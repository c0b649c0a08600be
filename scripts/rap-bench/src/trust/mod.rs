//! Scenario `trust`: revocation, kill -9, flipped bits, the race for a token with one use, and row MACs.
//!
//! Owns which rows there are, their bars and their order. A part that fails leaves its rows unmeasured, with the reason.

mod flips;
mod kills;
mod macs;
mod race;
mod revoke;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::control_plane::ControlPlane;
use crate::operator::Operator;
use crate::report::{Report, Row};
use crate::scenario::{self, Measured};
use crate::settings::Settings;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Kills,
    Flips,
    Race,
    Revoke,
    Macs,
}

impl Part {
    const ALL: [Self; 5] = [Self::Kills, Self::Flips, Self::Race, Self::Revoke, Self::Macs];
}

/// How the value of a row follows from its runs.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// This rank of the sorted runs.
    Rank(f64),
    /// All together.
    Sum,
    /// The largest; with a bar it must not exceed it.
    Largest,
    /// The smallest; with a bar it must reach it.
    Smallest,
}

struct Spec {
    id: &'static str,
    /// What was measured.
    of: &'static str,
    part: Part,
    unit: &'static str,
    value: Value,
    bar: Option<f64>,
}

const fn spec(
    id: &'static str,
    of: &'static str,
    part: Part,
    unit: &'static str,
    value: Value,
    bar: Option<f64>,
) -> Spec {
    Spec { id, of, part, unit, value, bar }
}

/// Every row, in the order of the result.
const ROWS: &[Spec] = &[
    spec("revoke_closes_link_p50", "revoke", Part::Revoke, "ms", Value::Rank(0.5), None),
    spec("revoke_closes_link_p99", "revoke", Part::Revoke, "ms", Value::Rank(0.99), Some(1000.0)),
    spec("kill9_up_p50", "up", Part::Kills, "ms", Value::Rank(0.5), None),
    spec("kill9_up_p99", "up", Part::Kills, "ms", Value::Rank(0.99), Some(5000.0)),
    spec("kill9_floor_regressions", "regressions", Part::Kills, "floors", Value::Sum, Some(0.0)),
    spec("kill9_caches_lost", "caches_lost", Part::Kills, "caches", Value::Sum, None),
    spec("bitflips_accepted", "flips", Part::Flips, "flips", Value::Sum, Some(0.0)),
    spec("one_use_race_winners", "winners", Part::Race, "winners", Value::Largest, Some(1.0)),
    spec("one_use_race_winners_min", "winners", Part::Race, "winners", Value::Smallest, Some(1.0)),
    spec("one_use_race_round_p50", "race_ms", Part::Race, "ms", Value::Rank(0.5), None),
    spec("row_macs_10k", "row_macs", Part::Macs, "ms", Value::Rank(0.5), None),
    spec("row_macs_10k_read", "row_macs_read", Part::Macs, "ms", Value::Rank(0.5), None),
];

/// Runs the scenario. What fails is a row that says so.
///
/// # Errors
/// When the run cannot even begin.
pub fn run(settings: &Settings) -> Result<Report> {
    let mut report = scenario::report("trust", settings);
    report.set("raised_limits", "none: every racing client has a source address of its own");
    let mut measured = Measured::new();
    let mut failures = BTreeMap::new();
    let failed = scenario::beside_control_plane(settings, async |folder, control| {
        parts(settings, folder, control, &mut measured, &mut failures).await
    })?;
    for part in Part::ALL {
        if let Some(failed) = &failed {
            failures.entry(part).or_insert_with(|| failed.clone());
        }
    }
    for spec in ROWS.iter().filter(|spec| settings.wants(&[spec.id])) {
        report.push(row(spec, &measured, failures.get(&spec.part)));
    }
    Ok(report)
}

fn wanted(settings: &Settings, part: Part) -> bool {
    ROWS.iter().any(|spec| spec.part == part && settings.wants(&[spec.id]))
}

fn row(spec: &Spec, measured: &Measured, failure: Option<&String>) -> Row {
    let row = match measured.get(spec.of) {
        Some((runs, note)) if !runs.is_empty() => match spec.value {
            Value::Rank(rank) => Row::percentile(spec.id, spec.unit, rank, runs),
            Value::Sum => Row::with(spec.id, spec.unit, runs.iter().sum(), runs),
            Value::Largest => Row::percentile(spec.id, spec.unit, 1.0, runs),
            Value::Smallest => Row::percentile(spec.id, spec.unit, 0.0, runs),
        }
        .note(note),
        _ => Row::unmeasured(spec.id, spec.unit, failure.map_or("no run", String::as_str)),
    };
    match (spec.bar, spec.value) {
        (Some(bar), Value::Smallest) => row.at_least(bar),
        (Some(bar), _) => row.bar(bar),
        (None, _) => row,
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
    for part in Part::ALL.into_iter().filter(|part| wanted(settings, *part)) {
        eprintln!("{part:?} ...");
        let ended = match part {
            Part::Kills => kills::measure(settings, folder, &mut operator, measured).await,
            Part::Flips => flips::measure(settings, folder, control, &mut operator, measured).await,
            Part::Race => race::measure(settings, control, &mut operator, measured).await,
            Part::Revoke => revoke::measure(settings, folder, &mut operator, measured).await,
            Part::Macs => macs::measure(settings, control, measured).await,
        };
        if let Err(error) = ended {
            failures.insert(part, format!("{error:#}"));
        }
    }
    Ok(())
}

/// Makes a cluster and a token for it in a file.
async fn token(
    operator: &mut Operator,
    folder: &Path,
    cluster: &str,
    uses: u32,
    auto_approve: bool,
) -> Result<PathBuf> {
    operator.cluster(cluster).await?;
    let path = folder.join(format!("{cluster}.token"));
    crate::process::write_private(&path, &operator.token_with(cluster, uses, auto_approve).await?)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promised_rows_and_bars_are_there() {
        let bars: BTreeMap<&str, Option<f64>> = ROWS.iter().map(|spec| (spec.id, spec.bar)).collect();
        assert_eq!(bars.len(), ROWS.len());
        for (id, bar) in [
            ("revoke_closes_link_p99", 1000.0),
            ("kill9_up_p99", 5000.0),
            ("kill9_floor_regressions", 0.0),
            ("bitflips_accepted", 0.0),
            ("one_use_race_winners", 1.0),
        ] {
            assert_eq!(bars[id], Some(bar), "{id}");
        }
    }

    #[test]
    fn a_race_without_a_winner_or_with_two_misses_a_bar() {
        let json = |id: &str, winners: &[f64]| {
            let measured = Measured::from([("winners", (winners.to_vec(), String::new()))]);
            let spec = ROWS.iter().find(|spec| spec.id == id).unwrap();
            serde_json::to_value(row(spec, &measured, None)).unwrap()
        };
        for (winners, most, least) in
            [(&[1.0, 1.0][..], true, true), (&[1.0, 0.0], true, false), (&[2.0, 1.0], false, true)]
        {
            assert_eq!(json("one_use_race_winners", winners)["met"], most, "{winners:?}");
            assert_eq!(json("one_use_race_winners_min", winners)["met"], least, "{winners:?}");
        }
        assert_eq!(json("one_use_race_winners_min", &[1.0])["better"], "higher");
    }

    #[test]
    fn every_accepted_flip_counts() {
        let measured = Measured::from([("flips", (vec![0.0, 1.0, 1.0], String::new()))]);
        let spec = ROWS.iter().find(|spec| spec.id == "bitflips_accepted").unwrap();
        let row = serde_json::to_value(row(spec, &measured, None)).unwrap();
        assert_eq!((&row["value"], &row["met"]), (&2.0.into(), &false.into()));
    }
}
