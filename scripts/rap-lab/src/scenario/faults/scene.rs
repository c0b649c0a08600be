//! What the checks of faults are played on: a strict installation with two nodes.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::fabric::{CALL, Control, Node, Pace};
use crate::lab::Lab;

/// How much a check shows, where more takes minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// What shows the effect.
    Short,
    /// As large as it was promised.
    Full,
}

/// A strict installation with two healthy nodes that hear each other.
pub struct Scene<'a> {
    pub lab: &'a Lab,
    pub size: Size,
    pub control: Control,
    pub nodes: [Node; 2],
}

/// Makes the installation and its nodes.
pub fn prepare(lab: &Lab, size: Size) -> Result<Scene<'_>> {
    let control = Control::start_strict_with(lab, "cp", &[])?;
    control.create_cluster(CLUSTER, Pace::default())?;
    let token = control.create_token(CLUSTER, "--auto-approve --uses 2")?;
    let [one, two] = ["n1", "n2"].map(|name| joined(lab, name, &token));
    let nodes = [one?, two?];
    for node in &nodes {
        node.wait_healthy()?;
    }
    nodes[0].wait_answer(&nodes[1])?;
    Ok(Scene { lab, size, control, nodes })
}

/// A node that joined with this token and runs.
fn joined(lab: &Lab, name: &str, token: &[u8]) -> Result<Node> {
    let node = Node::configure_strict(lab, name)?;
    node.join(token).with_context(|| format!("{name} joins"))?;
    node.run()?;
    Ok(node)
}

/// A further node of the scene.
pub fn extra(scene: &Scene<'_>, name: &str, variables: &[(&str, String)]) -> Result<Node> {
    let token = scene.control.create_token(CLUSTER, "--auto-approve")?;
    let node = Node::configure_strict_with(scene.lab, name, variables)?;
    node.join(&token).with_context(|| format!("{name} joins"))?;
    node.run()?;
    node.wait_healthy()?;
    Ok(node)
}

/// The scene as it was: the node is gone from it.
pub fn leave(scene: &Scene<'_>, node: &Node, name: &str) -> Result<()> {
    node.host().typed("rap-node-agent leave", CALL)?;
    node.agent(scene.lab)?.stop().with_context(|| format!("the agent of {name}"))
}

/// The directory of its membership.
pub fn membership(node: &Node) -> PathBuf {
    node.host().folder("lib").join("agent/default")
}

pub const CLUSTER: &str = "prod";
