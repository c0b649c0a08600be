//! Scenarios by name. Owns what a scenario is; what each shows is its own affair.

mod chain;
mod compromise;
mod faults;
mod flat;
mod journeys;
mod lifecycle;
mod list;
mod mesh12;
mod spine;
pub mod two_sites;
mod wires;

use anyhow::Result;

use crate::check::Report;
use crate::lab::Lab;

pub use list::{ALL, find};

/// A story with checks.
#[derive(Debug)]
pub struct Scenario {
    /// Name on the command line and in the report.
    pub name: &'static str,
    /// One sentence.
    pub shows: &'static str,
    /// Whether hosts need the product's programs.
    pub needs_programs: bool,
    /// Runs it on an empty lab.
    pub run: fn(&Lab, &mut Report) -> Result<()>,
}
