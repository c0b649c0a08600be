//! How a scenario is to be run. Owns the settings after defaults; the command line owns the defaults.

use std::path::PathBuf;

/// How a scenario is to be run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Fewer and shorter rounds.
    pub quick: bool,
    /// Rounds of each row.
    pub rounds: u32,
    /// Simulated nodes; each scenario has a default.
    pub nodes: Option<u32>,
    /// Joins in flight at once, where a scenario has a burst of them.
    pub joins: u32,
    /// Starts of wanted ids; empty for all.
    pub only: Vec<String>,
    /// Folder of the programs under test.
    pub programs: PathBuf,
    /// Keep the run's folder.
    pub keep: bool,
}

impl Settings {
    /// True if any of these rows is wanted.
    pub fn wants(&self, ids: &[&str]) -> bool {
        self.only.is_empty() || ids.iter().any(|id| self.only.iter().any(|start| id.starts_with(start)))
    }
}
