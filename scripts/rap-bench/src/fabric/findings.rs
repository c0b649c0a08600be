//! What the parts of a run measured. A part in a process of its own hands them over as lines of JSON.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Runs and notes by measurement.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Findings(BTreeMap<String, (Vec<f64>, String)>);

impl Findings {
    /// Adds a measurement.
    pub(super) fn add(&mut self, of: &str, runs: Vec<f64>, note: &str) {
        self.0.insert(of.to_owned(), (runs, note.to_owned()));
    }

    /// A measurement with at least one run.
    pub(super) fn get(&self, of: &str) -> Option<(&[f64], &str)> {
        let (runs, note) = self.0.get(of)?;
        (!runs.is_empty()).then_some((runs, note))
    }

    /// As a line.
    pub(super) fn line(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// Adds those of a line.
    pub(super) fn take(&mut self, line: &str) -> Result<()> {
        let more: Self = serde_json::from_str(line).context("what a part found")?;
        self.0.extend(more.0);
        Ok(())
    }
}
