//! Which rows there are, their bars and their order. A row without a value never meets its bar.

use clap::ValueEnum;

use super::findings::Findings;
use crate::report::Row;
use crate::settings::Settings;

/// What is measured together; all but the first two in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    Decisions,
    Stretch,
    Closed,
    Silent,
    Stopped,
    Failovers,
    Input,
    Processor,
    Flows,
    Idle,
    Busy,
    First,
    Relink,
    Memory,
}

impl Part {
    /// Each in a process of its own.
    pub(super) const APART: [Self; 12] = [
        Self::Closed,
        Self::Silent,
        Self::Stopped,
        Self::Failovers,
        Self::Input,
        Self::Processor,
        Self::Flows,
        Self::Idle,
        Self::Busy,
        Self::First,
        Self::Relink,
        Self::Memory,
    ];
}

/// How the value of a row follows from its runs.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// This rank of the sorted runs.
    Rank(f64),
    /// The largest.
    Largest,
    /// All together.
    Sum,
    /// The middle one, and it must reach its bar.
    AtLeast,
}

pub(super) struct Spec {
    pub(super) id: &'static str,
    /// What was measured.
    of: &'static str,
    pub(super) part: Part,
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

const P50: Value = Value::Rank(0.5);
const P90: Value = Value::Rank(0.9);
const P99: Value = Value::Rank(0.99);

/// Every row, in the order of the result.
pub(super) const ROWS: &[Spec] = &[
    spec("decision_p50", "decision", Part::Decisions, "us", P50, None),
    spec("decision_with_backup_p99", "decision", Part::Decisions, "us", P99, Some(20.0)),
    spec("relay_loss_10000", "relay_loss", Part::Decisions, "ms", P50, Some(20.0)),
    spec("table_64_relays", "table", Part::Decisions, "ms", P50, Some(2.0)),
    spec("stretch_generated_p50", "stretch_generated", Part::Stretch, "x", P50, Some(1.03)),
    spec("stretch_generated_p90", "stretch_generated", Part::Stretch, "x", P90, Some(1.14)),
    spec("stretch_generated_p99", "stretch_generated", Part::Stretch, "x", P99, Some(1.55)),
    spec("stretch_planetlab_p50", "stretch_planetlab", Part::Stretch, "x", P50, Some(1.03)),
    spec("stretch_planetlab_p90", "stretch_planetlab", Part::Stretch, "x", P90, Some(1.14)),
    spec("stretch_planetlab_p99", "stretch_planetlab", Part::Stretch, "x", P99, Some(1.55)),
    spec("close_to_backup_p50", "closed", Part::Closed, "ms", P50, None),
    spec("close_to_backup_p99", "closed", Part::Closed, "ms", P99, Some(50.0)),
    spec("silent_to_backup_p50", "silent", Part::Silent, "ms", P50, Some(700.0)),
    spec("silent_to_backup_p99", "silent", Part::Silent, "ms", P99, Some(1200.0)),
    spec("stopped_to_backup_max", "stopped", Part::Stopped, "ms", Value::Largest, Some(2600.0)),
    spec("false_failovers", "failovers", Part::Failovers, "paths", Value::Sum, Some(0.0)),
    spec("input_idle_p99", "input_idle", Part::Input, "ms", P99, None),
    spec("input_beside_bulk_p99", "input_added", Part::Input, "ms", P99, Some(3.0)),
    spec("input_beside_unpaced_p99", "input_unpaced", Part::Input, "ms", P99, None),
    spec("relay_cpu_per_gb", "relay_cpu", Part::Processor, "s", P50, None),
    spec("proxy_cpu_per_gb", "proxy_cpu", Part::Processor, "s", P50, None),
    spec("relay_cpu_of_proxy", "relay_cpu_ratio", Part::Processor, "x", P50, Some(1.25)),
    spec("tcp_16_flows", "flows", Part::Flows, "Mbit/s", Value::AtLeast, Some(50.0)),
    spec("probes_idle", "probes_idle", Part::Idle, "kbit/s", P50, Some(2.0)),
    spec("probes_busy", "probes_busy", Part::Busy, "kbit/s", P50, Some(70.0)),
    spec("first_packet_p50", "first_packet", Part::First, "ms", P50, None),
    spec("first_packet_max", "first_packet", Part::First, "ms", Value::Largest, Some(300.0)),
    spec("relinked_300", "relinked", Part::Relink, "s", Value::Largest, Some(10.0)),
    spec("relay_memory", "relay_memory", Part::Memory, "MB", Value::Largest, None),
    spec("relay_memory_growth", "relay_memory_growth", Part::Memory, "MB", Value::Largest, Some(1.0)),
];

/// Whether a row needs this measurement.
pub(super) fn wants(settings: &Settings, of: &str) -> bool {
    ROWS.iter().any(|spec| spec.of == of && settings.wants(&[spec.id]))
}

/// The row of a measurement, or of why there is none.
pub(super) fn row(spec: &Spec, findings: &Findings, failure: Option<&String>) -> Row {
    let row = match (findings.get(spec.of), spec.value) {
        (None, _) => Row::unmeasured(spec.id, spec.unit, failure.map_or("no run", String::as_str)),
        (Some((runs, note)), Value::Rank(rank)) => Row::percentile(spec.id, spec.unit, rank, runs).note(note),
        (Some((runs, note)), Value::Largest) => {
            let largest = runs.iter().copied().fold(f64::MIN, f64::max);
            Row::with(spec.id, spec.unit, largest, runs).note(note)
        }
        (Some((runs, note)), Value::Sum) => Row::with(spec.id, spec.unit, runs.iter().sum(), runs).note(note),
        (Some((runs, note)), Value::AtLeast) => Row::median(spec.id, spec.unit, runs).note(note),
    };
    match spec.bar {
        Some(bar) if matches!(spec.value, Value::AtLeast) => row.at_least(bar),
        Some(bar) => row.bar(bar),
        None => row,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_every_part_has_rows() {
        let ids: std::collections::BTreeSet<&str> = ROWS.iter().map(|spec| spec.id).collect();
        assert_eq!(ids.len(), ROWS.len());
        for part in Part::value_variants() {
            assert!(ROWS.iter().any(|spec| spec.part == *part), "{part:?}");
        }
        let here = [Part::Decisions, Part::Stretch];
        assert_eq!(Part::APART.len() + here.len(), Part::value_variants().len());
    }

    #[test]
    fn a_row_takes_its_value_from_its_runs_and_is_not_met_without_any() {
        let mut findings = Findings::default();
        findings.add("stopped", vec![2_100.0, 2_700.0], "note");
        findings.add("failovers", vec![0.0, 1.0], "note");
        findings.add("flows", vec![60.0], "note");
        let value = |id: &str| {
            let spec = ROWS.iter().find(|spec| spec.id == id).unwrap();
            let row = serde_json::to_value(row(spec, &findings, Some(&"no unshare".to_owned()))).unwrap();
            (row["value"].as_f64(), row["met"].as_bool())
        };
        assert_eq!(value("stopped_to_backup_max"), (Some(2_700.0), Some(false)));
        assert_eq!(value("false_failovers"), (Some(1.0), Some(false)));
        assert_eq!(value("tcp_16_flows"), (Some(60.0), Some(true)));
        assert_eq!(value("relinked_300"), (None, None));
    }

    #[test]
    fn findings_pass_as_a_line() {
        let (mut here, mut there) = (Findings::default(), Findings::default());
        there.add("closed", vec![1.5, 2.0], "a note");
        here.take(&there.line().unwrap()).unwrap();
        assert_eq!(here.get("closed"), Some((&[1.5, 2.0][..], "a note")));
        assert!(here.take("no json").is_err() && here.get("silent").is_none());
    }
}
