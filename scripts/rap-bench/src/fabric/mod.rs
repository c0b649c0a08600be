//! Scenario `fabric`: what paths through others cost, and how soon a dead relay is replaced.
//!
//! Owns the order of the parts. A part that fails leaves its rows unmeasured, with the reason.

mod carry;
mod decisions;
mod failovers;
mod findings;
mod first;
mod flows;
mod inner;
mod input;
mod outages;
mod part;
mod planes;
mod probes;
mod relink;
mod rows;
mod scene;
mod stretch;
/// The nodes of the tests of links.
#[path = "../../../../node-agent/mesh/tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::report::Report;
use crate::settings::Settings;
use crate::{machine, scenario};
use findings::Findings;
pub(crate) use rows::Part;
use rows::{ROWS, Spec, row};

/// Runs the scenario. What fails is a row that says so.
///
/// # Errors
/// When the run cannot even begin.
pub fn run(settings: &Settings) -> Result<Report> {
    let mut report = scenario::report("fabric", settings);
    report.set("rounds", settings.rounds);
    let (mut findings, mut failures) = (Findings::default(), BTreeMap::new());
    decisions::measure(settings, &mut findings);
    if let Err(failure) = stretch::measure(settings, &mut findings) {
        failures.insert(Part::Stretch, failure);
    }
    for part in Part::APART {
        let wanted = |spec: &&Spec| spec.part == part && settings.wants(&[spec.id]);
        if ROWS.iter().any(|spec| wanted(&spec))
            && let Err(error) = part::run(part, settings, &mut findings)
        {
            failures.insert(part, format!("{error:#}"));
        }
    }
    for spec in ROWS.iter().filter(|spec| settings.wants(&[spec.id])) {
        report.push(row(spec, &findings, failures.get(&spec.part)));
    }
    Ok(report)
}

/// One part, in the process that was made for it.
///
/// # Errors
/// When it failed.
pub(crate) fn run_part(part: Part, settings: &Settings) -> Result<()> {
    let (programs, quick): (&Path, bool) = (&settings.programs, settings.quick);
    machine::allow_open_files(8192)?;
    part::within(|findings| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let done = runtime.block_on(async {
            match part {
                Part::Closed => outages::closed(programs, quick, findings).await,
                Part::Silent => outages::silent(quick, findings).await,
                Part::Stopped => outages::stopped(programs, quick, findings).await,
                Part::Failovers => failovers::measure(quick, findings).await,
                Part::Input => input::measure(quick, findings).await,
                Part::Processor => carry::processor(programs, quick, findings).await,
                Part::Idle => tokio::task::block_in_place(|| probes::idle(programs, quick, findings)),
                Part::Busy => probes::busy(quick, findings).await,
                Part::First => tokio::task::block_in_place(|| first::measure(programs, quick, findings)),
                Part::Flows => tokio::task::block_in_place(|| flows::measure(programs, quick, findings)),
                Part::Relink => relink::measure(quick, findings).await,
                Part::Memory => carry::memory(programs, quick, findings).await,
                Part::Decisions | Part::Stretch => anyhow::bail!("it needs no process of its own"),
            }
        });
        runtime.shutdown_background();
        done.context("part")
    })
}
