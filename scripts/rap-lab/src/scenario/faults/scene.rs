//! What the checks of faults are played on: a strict installation with two nodes.

use anyhow::{Context, Result};

use crate::fabric::{Control, Node, Pace};
use crate::lab::Lab;

/// A strict installation with two healthy nodes that hear each other.
pub struct Scene<'a> {
    pub lab: &'a Lab,
    pub control: Control,
    pub nodes: [Node; 2],
}

/// Makes the installation and its nodes.
pub fn prepare(lab: &Lab) -> Result<Scene<'_>> {
    let control = Control::start_strict_with(lab, "cp", &[])?;
    control.create_cluster(CLUSTER, Pace::default())?;
    let token = control.create_token(CLUSTER, "--role relay-node --auto-approve --uses 2")?;
    let [one, two] = ["n1", "n2"].map(|name| joined(lab, name, &token));
    let nodes = [one?, two?];
    for node in &nodes {
        node.wait_healthy()?;
    }
    nodes[0].wait_answer(&nodes[1])?;
    Ok(Scene { lab, control, nodes })
}

/// A node that joined with this token and runs.
fn joined(lab: &Lab, name: &str, token: &[u8]) -> Result<Node> {
    let node = Node::configure_strict(lab, name)?;
    node.join(token).with_context(|| format!("{name} joins"))?;
    node.run()?;
    Ok(node)
}

pub const CLUSTER: &str = "prod";
