//! What the life of a fabric is played on: a strict installation and its nodes.

use anyhow::{Context, Result};

use crate::fabric::{Control, Node, SETTLE};
use crate::lab::Lab;

/// A strict installation and its nodes.
pub struct Scene<'a> {
    pub lab: &'a Lab,
    pub control: Control,
    pub nodes: Vec<Node>,
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
