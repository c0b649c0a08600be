//! Scenarios by name. Owns the list; what each shows is its own affair.

mod compromise;
mod lifecycle;
mod spine;
mod wires;

use anyhow::{Result, bail};

use crate::check::Report;
use crate::lab::Lab;

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

/// The scenario of this name.
pub fn find(name: &str) -> Result<&'static Scenario> {
    let Some(scenario) = ALL.iter().find(|scenario| scenario.name == name) else {
        let names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        bail!("no scenario {name}; there are: {}", names.join(" "));
    };
    Ok(scenario)
}

/// Every scenario.
pub const ALL: &[Scenario] = &[compromise::COMPROMISE, lifecycle::LIFECYCLE, spine::SPINE, wires::WIRES];
