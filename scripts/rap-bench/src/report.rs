//! The form of a result: schema rap.bench.v1 and the table on the terminal.
//!
//! Owns when a bar is met. Refuses to own how a value came about.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use comfy_table::{Cell, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::machine;
use crate::measure::{median, percentile};

/// One scenario's result.
#[derive(Debug)]
pub struct Report {
    schema: &'static str,
    name: &'static str,
    commit: String,
    cores: usize,
    kernel: String,
    /// How it was run: placement, rounds, limits that were raised.
    settings: BTreeMap<&'static str, String>,
    rows: Vec<Row>,
}

/// One bar or one comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    id: &'static str,
    value: Option<f64>,
    unit: &'static str,
    bar: Option<f64>,
    better: &'static str,
    met: Option<bool>,
    runs: Vec<f64>,
    n: usize,
    note: String,
}

impl Report {
    /// A result of this machine and this checkout, without rows.
    pub fn new(name: &'static str) -> Self {
        Self {
            schema: "rap.bench.v1",
            name,
            commit: machine::commit(),
            cores: machine::cores(),
            kernel: machine::kernel(),
            settings: BTreeMap::new(),
            rows: Vec::new(),
        }
    }

    /// Says how it was run.
    pub fn set(&mut self, name: &'static str, value: impl ToString) {
        self.settings.insert(name, value.to_string());
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The document, one line per field and per row, so that two results can be compared by eye.
    fn text(&self) -> Result<String> {
        let rows: Vec<String> = self.rows.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        let mut text = String::from("{\n");
        for (name, value) in [
            ("schema", serde_json::to_string(self.schema)?),
            ("name", serde_json::to_string(self.name)?),
            ("commit", serde_json::to_string(&self.commit)?),
            ("cores", serde_json::to_string(&self.cores)?),
            ("kernel", serde_json::to_string(&self.kernel)?),
            ("settings", serde_json::to_string(&self.settings)?),
            ("rows", format!("[\n    {}\n  ]", rows.join(",\n    "))),
        ] {
            let separator = if text.len() > 2 { ",\n" } else { "" };
            text += &format!("{separator}  \"{name}\": {value}");
        }
        Ok(text + "\n}\n")
    }

    /// Writes `<folder>/<name>.json` whole and returns its path.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let path = folder.join(format!("{}.json", self.name));
        let fresh = path.with_extension("json.new");
        fs::write(&fresh, self.text()?).with_context(|| fresh.display().to_string())?;
        fs::rename(&fresh, &path).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

impl Row {
    /// A row whose value is the median of its runs; smaller is better.
    pub fn median(id: &'static str, unit: &'static str, runs: &[f64]) -> Self {
        Self::of(id, unit, median(runs), runs)
    }

    /// A row whose value is a percentile of its runs (nearest rank); smaller is better.
    pub fn percentile(id: &'static str, unit: &'static str, rank: f64, runs: &[f64]) -> Self {
        Self::of(id, unit, percentile(runs, rank), runs)
    }

    /// A row with this value; smaller is better.
    pub fn with(id: &'static str, unit: &'static str, value: f64, runs: &[f64]) -> Self {
        Self::of(id, unit, Some(value), runs)
    }

    /// A row that could not be measured, and why.
    pub fn unmeasured(id: &'static str, unit: &'static str, why: impl fmt::Display) -> Self {
        Self::of(id, unit, None, &[]).note(format!("not measured: {why}"))
    }

    fn of(id: &'static str, unit: &'static str, value: Option<f64>, runs: &[f64]) -> Self {
        Self {
            id,
            value: value.map(rounded),
            unit,
            bar: None,
            better: "lower",
            met: None,
            runs: runs.iter().copied().map(rounded).collect(),
            n: runs.len(),
            note: String::new(),
        }
    }

    /// Its bar.
    #[must_use]
    pub fn bar(mut self, bar: f64) -> Self {
        self.bar = Some(bar);
        self.met = self.value.map(|value| value <= bar);
        self
    }

    /// Its bar, from below: larger is better.
    #[must_use]
    pub fn at_least(mut self, bar: f64) -> Self {
        self.bar = Some(bar);
        self.better = "higher";
        self.met = self.value.map(|value| value >= bar);
        self
    }

    /// What one must know to read it.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Its id.
    pub const fn id(&self) -> &'static str {
        self.id
    }

    fn spread(&self) -> String {
        let smallest = self.runs.iter().copied().reduce(f64::min);
        let largest = self.runs.iter().copied().reduce(f64::max);
        smallest.zip(largest).map_or_else(String::new, |(low, high)| format!("{low} .. {high}"))
    }

    fn verdict(&self) -> &'static str {
        match (self.bar, self.met) {
            (_, Some(true)) => "met",
            (_, Some(false)) => "MISSED",
            (Some(_), None) => "not measured",
            (None, None) => "",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["ROW", "VALUE", "BAR", "", "RUNS", "LOW .. HIGH"]);
        for row in &self.rows {
            let with_unit = |value: Option<f64>| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value} {}", row.unit))
            };
            table.add_row([
                Cell::new(row.id),
                Cell::new(with_unit(row.value)),
                Cell::new(row.bar.map_or_else(String::new, |bar| format!("{bar} {}", row.unit))),
                Cell::new(row.verdict()),
                Cell::new(row.n),
                Cell::new(row.spread()),
            ]);
        }
        writeln!(f, "{} at {}, {} cores, Linux {}", self.name, self.commit, self.cores, self.kernel)?;
        for (name, value) in &self.settings {
            writeln!(f, "  {name}: {value}")?;
        }
        writeln!(f, "{table}")?;
        for row in self.rows.iter().filter(|row| row.value.is_none()) {
            writeln!(f, "{}: {}", row.id, row.note)?;
        }
        Ok(())
    }
}

/// Four significant digits: more would be noise.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = (3.0 - value.abs().log10().floor()).clamp(0.0, 9.0);
    let scale = 10f64.powf(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_at_its_value_and_missed_above_it() {
        let row = |runs: &[f64]| Row::median("row", "ms", runs).bar(10.0);
        assert_eq!(row(&[10.0]).met, Some(true));
        assert_eq!(row(&[10.1]).met, Some(false));
        assert_eq!(row(&[1.0, 99.0, 2.0]).value, Some(2.0));
    }

    #[test]
    fn an_unmeasured_row_keeps_its_bar_and_says_why() {
        let row = Row::unmeasured("row", "ms", "no PostgreSQL here").bar(10.0);
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(json["met"], serde_json::Value::Null);
        assert_eq!(json["value"], serde_json::Value::Null);
        assert_eq!(json["bar"], 10.0);
        assert_eq!(json["note"], "not measured: no PostgreSQL here");
        assert_eq!(row.verdict(), "not measured");
    }

    #[test]
    fn a_result_has_exactly_the_fields_of_its_schema() {
        let mut report = Report::new("spine");
        report.push(Row::median("join_p50", "ms", &[412.4, 420.0, 401.0]).bar(1000.0).note("a note"));
        let folder = tempfile::tempdir().unwrap();
        let text = fs::read_to_string(report.write(folder.path()).unwrap()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let fields: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["commit", "cores", "kernel", "name", "rows", "schema", "settings"]);
        assert_eq!(json["schema"], "rap.bench.v1");
        let row = &json["rows"][0];
        let fields: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["bar", "better", "id", "met", "n", "note", "runs", "unit", "value"]);
        assert_eq!(row["runs"], serde_json::json!([412.4, 420.0, 401.0]));
        assert_eq!((&row["value"], &row["n"], &row["better"]), (&412.4.into(), &3.into(), &"lower".into()));
    }

    #[test]
    fn values_keep_four_significant_digits() {
        assert_eq!(rounded(123_456.0), 123_456.0);
        assert_eq!(rounded(12.345_6), 12.35);
        assert_eq!(rounded(0.001_234_56), 0.001_235);
        assert_eq!(rounded(0.0), 0.0);
    }
}
