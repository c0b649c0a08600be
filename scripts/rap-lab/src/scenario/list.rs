//! The list of scenarios. Owns which there are, and finding one.

use anyhow::{Result, bail};

use super::{
    Scenario, chain, compromise, faults, flat, journeys, lifecycle, mesh12, spine, two_sites, wires,
};

/// The scenario of this name.
pub fn find(name: &str) -> Result<&'static Scenario> {
    let Some(scenario) = ALL.iter().find(|scenario| scenario.name == name) else {
        let names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        bail!("no scenario {name}; there are: {}", names.join(" "));
    };
    Ok(scenario)
}

/// Every scenario.
pub const ALL: &[Scenario] = &[
    chain::CHAIN,
    compromise::COMPROMISE,
    faults::FAULTS,
    faults::FAULTS_LONG,
    flat::FLAT,
    journeys::JOURNEYS,
    lifecycle::LIFECYCLE,
    mesh12::MESH12,
    mesh12::MESH12_SHORT,
    spine::SPINE,
    two_sites::TWO_SITES,
    two_sites::TWO_SITES_LONG,
    wires::WIRES,
];
