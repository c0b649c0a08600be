//! The main job from end to end: an installation, nodes that enrol, pings over the overlay, and what happens when parts die.

mod failures;
mod joins;
mod lane_b;

use anyhow::{Context, Result};

use super::Scenario;
use crate::check::Report;
use crate::fabric::{Control, Node, Pace};
use crate::lab::Lab;
use crate::mode::Mode;

/// See the module.
pub const SPINE: Scenario = Scenario {
    name: "spine",
    shows: "hosts join, verify a snapshot, ping each other, and survive the loss of any part",
    needs_programs: true,
    run,
};

fn run(lab: &Lab, report: &mut Report) -> Result<()> {
    let control = Control::start(lab, "cp")?;
    control.create_cluster(CLUSTER, Pace::default())?;
    let mut nodes = Vec::new();
    report.check("join_pending_approve", || joins::pending_approve(lab, &control, &mut nodes));
    report.check("join_auto", || joins::auto(lab, &control, &mut nodes));
    report.check("one_use_race", || joins::one_use_race(lab, &control));
    report.check("agent_restart_no_loss", || {
        let (one, other) = pair(&nodes)?;
        failures::agent_restart(lab, one, other)
    });
    report.check("dataplane_restart_recovers", || {
        let (one, other) = pair(&nodes)?;
        failures::dataplane_restart(lab, one, other)
    });
    report.check("postgres_kill_recovers", || {
        let (one, other) = pair(&nodes)?;
        failures::postgres_kill(lab, &control, one, other)
    });
    report.check("cold_boot_offline", || {
        let (one, other) = pair(&nodes)?;
        failures::cold_boot_offline(lab, &control, one, other)
    });
    if lab.mode() == Mode::Namespaces {
        let mut desk = None;
        report.check("lane_b", || lane_b::nine_commands(lab, &mut desk));
        report.check("export_verifies", || {
            lane_b::export_verifies(desk.as_ref().context("there is no installation with an offline root")?)
        });
    } else {
        eprintln!("lane_b left out: services in /etc and /var need network namespaces, and those need root");
    }
    Ok(())
}

fn pair(nodes: &[Node]) -> Result<(&Node, &Node)> {
    let [one, other, ..] = nodes else { return Err(anyhow::anyhow!("fewer than two nodes joined")) };
    one.wait_answer(other).context("before anything is broken")?;
    Ok((one, other))
}

const CLUSTER: &str = "spine";
