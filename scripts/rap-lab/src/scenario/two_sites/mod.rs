//! Two sites that cannot reach each other: each behind a router that gives every connection another port and lets nothing in. Two
//! relays and the control plane are outside. Owns the order: what is proven of the network first, then traffic, then faults.

mod direct;
mod explained;
pub mod faults;
mod memory;
pub mod nat;
mod outage;
pub mod scene;
mod traffic;

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Scenario;
use crate::check::Report;
use crate::lab::Lab;
use crate::mode::Mode;

/// See the module.
pub const TWO_SITES: Scenario = Scenario {
    name: "two-sites",
    shows: "two sites behind symmetric NAT talk through a relay, and go on when it dies, when nobody can be asked, and when a direct way comes and goes",
    needs_programs: true,
    run: |lab, report| run(lab, report, Duration::from_secs(120)),
};

/// The same with an outage of ten minutes.
pub const TWO_SITES_LONG: Scenario = Scenario {
    name: "two-sites-long",
    shows: "two-sites with control plane and database away for ten minutes",
    needs_programs: true,
    run: |lab, report| run(lab, report, Duration::from_secs(600)),
};

fn run(lab: &Lab, report: &mut Report, outage: Duration) -> Result<()> {
    ensure!(lab.mode() == Mode::Namespaces, "sites need network namespaces, and those need root");
    report.check("nat_is_symmetric_and_closed", || nat::check(lab));
    let scene = scene::prepare(lab)?;
    report.check("ping_through_a_relay", || traffic::ping(&scene));
    report.check("streams_through_a_relay", || traffic::streams(&scene));
    report.check("iperf3_through_a_relay", || traffic::iperf3(&scene));
    report.check("paths_are_explained", || explained::check(&scene));
    report.check("relay_sees_nothing", || memory::relay_sees_nothing(&scene));
    report.check("relay_killed", || faults::killed_under_ssh(&scene));
    report.check("relay_cut_silently", || faults::cut_silently(&scene));
    report.check("nobody_to_ask", || outage::check(&scene, outage));
    report.check("direct_way_comes_and_goes", || direct::check(&scene));
    Ok(())
}
