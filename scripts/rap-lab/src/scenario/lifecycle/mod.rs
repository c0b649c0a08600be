//! The life of a fabric after its nodes joined: keys change, nodes come, go and are thrown out, hosts are away for days, one host is
//! in several clusters.

mod authority;
mod break_glass;
mod custody;
mod degraded;
mod memberships;
mod removal;
mod returning;
mod time;

use anyhow::{Context, Result};

use super::Scenario;
use crate::check::Report;
use crate::fabric::{Control, Node, Pace, SETTLE};
use crate::lab::Lab;

/// See the module.
pub const LIFECYCLE: Scenario = Scenario {
    name: "lifecycle",
    shows: "authorities rotate, nodes are revoked, leave, return after days, and are in several clusters at once",
    needs_programs: true,
    run,
};

/// A strict installation and its nodes.
pub struct Scene<'a> {
    pub lab: &'a Lab,
    pub control: Control,
    pub nodes: Vec<Node>,
}

fn run(lab: &Lab, report: &mut Report) -> Result<()> {
    let clock = time::Clock::prepare(lab)?;
    let control = Control::start_strict_with(lab, "cp", &clock.variables())?;
    control.create_cluster(CLUSTER, Pace::default())?;
    let mut scene = Scene { lab, control, nodes: Vec::new() };
    for name in ["n1", "n2", "n3"] {
        let node = Node::configure_strict_with(lab, name, &clock.variables())?;
        scene.joins(&node, "--role relay-node --auto-approve")?;
        scene.nodes.push(node);
    }
    report.check("rotation", || authority::rotation(&scene));
    report.check("slept_through_two_rotations", || authority::slept_through(&scene));
    report.check("recovery", || authority::recovery(&scene));
    report.check("kek_and_dek_rotation", || custody::kek_and_dek_rotation(&scene));
    report.check("key_rotation", || removal::key_rotation(&scene));
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
    report.check("two_days_off", || time::two_days_off(&scene, &clock));
    Ok(())
}

impl Scene<'_> {
    /// Two nodes that hear each other.
    pub fn pair(&self) -> Result<(&Node, &Node)> {
        let [one, two, ..] = self.nodes.as_slice() else { anyhow::bail!("fewer than two nodes joined") };
        one.wait_answer(two).context("before anything is changed")?;
        Ok((one, two))
    }

    /// Enrols a node with a token of these options, starts it and waits until it is healthy.
    pub fn joins(&self, node: &Node, options: &str) -> Result<()> {
        let token = self.control.create_token(CLUSTER, options)?;
        node.join(&token).with_context(|| format!("{} joins", node.name()))?;
        node.run()?;
        node.wait_healthy().map(drop)
    }

    /// A node of its own for one check.
    pub fn new_node(&self, name: &str, options: &str) -> Result<Node> {
        let node = Node::configure_strict(self.lab, name)?;
        self.joins(&node, options)?;
        Ok(node)
    }

    /// What the control plane says of a node.
    pub fn shown(&self, name: &str) -> Result<serde_json::Value> {
        let listed = self.control.ask(&format!("node list --cluster {CLUSTER} --all"))?;
        let nodes = listed["nodes"].as_array().context("nodes")?;
        let newest = nodes.iter().rev().find(|node| node["name"] == name);
        newest.cloned().with_context(|| format!("no node {name}"))
    }

    /// Waits until a node no longer knows another.
    pub fn wait_forgets(&self, node: &Node, other: &str) -> Result<std::time::Duration> {
        let name = format!("\"{other}\"");
        let (_, took) = node.wait_status(&format!("has dropped {other}"), SETTLE, |_, status| {
            !status["peers"].to_string().contains(&name)
        })?;
        Ok(took)
    }
}

pub const CLUSTER: &str = "prod";
