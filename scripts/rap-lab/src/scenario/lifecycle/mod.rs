//! The life of a fabric after its nodes joined: keys change, nodes come, go and are thrown out, hosts are away for days, one host is
//! in several clusters.

mod authority;
mod break_glass;
mod custody;
mod degraded;
mod memberships;
mod removal;
mod returning;
mod scene;
mod time;

use anyhow::Result;

use self::scene::{CLUSTER, Scene};
use super::Scenario;
use crate::check::Report;
use crate::fabric::{Control, Node, Pace};
use crate::lab::Lab;
use crate::programs::have_test_hooks;

/// See the module.
pub const LIFECYCLE: Scenario = Scenario {
    name: "lifecycle",
    shows: "authorities rotate, nodes are revoked, leave, return after days, and are in several clusters at once",
    needs_programs: true,
    run,
};

fn run(lab: &Lab, report: &mut Report) -> Result<()> {
    let clock = time::Clock::prepare(lab)?;
    let control = Control::start_strict_with(lab, "cp", &clock.variables())?;
    control.create_cluster(CLUSTER, Pace::default())?;
    let mut scene = Scene { lab, control, nodes: Vec::new() };
    for name in ["n1", "n2", "n3"] {
        let node = Node::configure_strict_with(lab, name, &clock.variables())?;
        scene.joins(&node, "--auto-approve")?;
        scene.nodes.push(node);
    }
    report.check("rotation", || authority::rotation(&scene));
    report.check("slept_through_two_rotations", || authority::slept_through(&scene));
    report.check("recovery", || authority::recovery(&scene));
    report.check("kek_and_dek_rotation", || custody::kek_and_dek_rotation(&scene));
    report.check("key_rotation", || removal::key_rotation(&scene));
    report.check("acts_ask_first", || removal::acts_ask_first(&scene));
    report.check("revocation", || removal::revocation(&scene));
    report.check("eviction", || removal::eviction(&scene));
    report.check("reenrollment", || returning::reenrollment(&scene));
    report.check("token_with_nodes", || removal::token_with_nodes(&scene));
    report.check("ephemeral", || removal::ephemeral(&scene));
    report.check("leave", || removal::leave(&scene));
    report.check("memberships", || memberships::two_clusters(&scene));
    report.check("overlapping_pool_refused", || memberships::overlap(&scene));
    report.check("degraded_policy", || degraded::policy(&scene));
    report.check("break_glass", || break_glass::root_signed(&scene));
    if have_test_hooks(lab)? {
        report.check("two_days_off", || time::two_days_off(&scene, &clock));
    }
    Ok(())
}
