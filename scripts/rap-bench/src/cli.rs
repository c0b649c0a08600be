//! The command line. Owns names and help; the scenarios own what they do.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::fabric;
use crate::machine;
use crate::scale::BURST;
use crate::settings::Settings;

/// Measure this machine against the design's bars.
///
/// Prints a table and writes <out>/NAME.json (schema rap.bench.v1): one row per bar, with every run. A bar
/// that could not be measured is a row with "met": null and the reason.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 100)]
pub struct Cli {
    /// Scenario.
    #[command(subcommand)]
    scenario: Scenario,
    /// Fewer and shorter rounds: under a minute instead of under four.
    #[arg(long, global = true)]
    quick: bool,
    /// Rounds of each row [default: 5, or 3 with --quick].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Simulated nodes [default: 100, or 1000 of `scale`].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=10_000))]
    nodes: Option<u32>,
    /// Joins in flight at once in the burst of `scale`.
    #[arg(long, global = true, value_name = "N", default_value_t = BURST, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    joins: u32,
    /// Only rows whose id starts with this; repeatable.
    #[arg(long, global = true, value_name = "ID")]
    only: Vec<String>,
    /// Folder of the programs under test [default: the folder of this program].
    #[arg(long, global = true, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Folder of the results.
    #[arg(long, global = true, value_name = "DIR", default_value = "artifacts/bench")]
    out: PathBuf,
    /// Keep the run's folder (state and logs) and print its path.
    #[arg(long, global = true)]
    keep: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, Subcommand)]
enum Scenario {
    /// Join, distribution, cold start, memory, and the cores' own costs.
    Spine,
    /// What a version costs the planner, and what a record costs a node.
    Planner,
    /// Beside 1,000 connected nodes: a change that one sees, a change that all see, and 300 joins at once.
    Scale,
    /// Revocation until the link is closed, kill -9 and floors, flipped bits, the race for one use.
    Trust,
    /// Paths: decisions, stretch, a relay that dies, falls silent or is flooded, what relays and probes cost.
    Fabric,
    /// One part of `fabric`, in the process that was made for it.
    #[command(hide = true)]
    FabricPart {
        /// Which.
        part: fabric::Part,
    },
}

impl Cli {
    /// Runs the scenario.
    ///
    /// # Errors
    /// When no result could be written. Rows that could not be measured are in the result.
    pub fn run(self) -> Result<()> {
        let own = std::env::current_exe().context("own path")?;
        let beside = own.parent().context("own folder")?;
        let settings = Settings {
            quick: self.quick,
            rounds: self.rounds.unwrap_or(if self.quick { 3 } else { 5 }),
            nodes: self.nodes,
            joins: self.joins,
            only: self.only,
            programs: self.programs.unwrap_or_else(|| beside.to_owned()),
            keep: self.keep,
        };
        if let Scenario::FabricPart { part } = self.scenario {
            return fabric::run_part(part, &settings);
        }
        machine::keep_to_core(machine::MEASURING_CORE);
        let report = match self.scenario {
            Scenario::Spine => crate::spine::run(&settings)?,
            Scenario::Planner => crate::planner::run(&settings)?,
            Scenario::Scale => crate::scale::run(&settings)?,
            Scenario::Trust => crate::trust::run(&settings)?,
            Scenario::Fabric => fabric::run(&settings)?,
            Scenario::FabricPart { .. } => return Ok(()),
        };
        print!("{report}");
        let file = report.write(&self.out)?;
        println!("written: {}", file.display());
        Ok(())
    }
}
