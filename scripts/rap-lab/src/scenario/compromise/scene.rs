//! What the compromise drill is played on: a strict installation, three nodes, and somebody inside its database.

use anyhow::{Context, Result};

use crate::fabric::{Control, Intruder, Node, Pace};
use crate::lab::Lab;

/// A strict installation with three nodes, and somebody inside its database.
pub struct Scene<'a> {
    pub lab: &'a Lab,
    pub control: Control,
    pub intruder: Intruder,
    pub nodes: [Node; 3],
}

/// An installation with healthy nodes, and the intruder let in.
pub fn prepare(lab: &Lab) -> Result<Scene<'_>> {
    // Every row is checked with every version, not only at start and once a minute: the drill looks at what a check finds.
    let control = Control::start_strict_with(lab, "cp", &[("RAP_ROWS_CHECK_MS", "0".to_owned())])?;
    control.create_cluster(CLUSTER, Pace::default())?;
    let token = control.create_token(CLUSTER, "--auto-approve --uses 3")?;
    let nodes = ["n1", "n2", "n3"].map(|name| enrolled(lab, name, &token));
    let [one, two, three] = nodes;
    let nodes = [one?, two?, three?];
    for node in &nodes {
        node.wait_healthy()?;
    }
    let intruder = Intruder::into_database_of(&control)?;
    Ok(Scene { lab, control, intruder, nodes })
}

/// A node that joined and runs.
pub fn enrolled(lab: &Lab, name: &str, token: &[u8]) -> Result<Node> {
    let node = Node::configure_strict(lab, name)?;
    node.join(token).with_context(|| format!("{name} joins"))?;
    node.run()?;
    Ok(node)
}

impl Scene<'_> {
    /// The id of a node by its name.
    pub fn id_of(&self, name: &str) -> Result<String> {
        let node = self.control.ask(&format!("node show {name} --cluster {CLUSTER}"))?;
        Ok(node["node_id"].as_str().context("node id")?.to_owned())
    }

    /// The version that every node has verified by now.
    pub fn version(&self) -> Result<u64> {
        let (_, status) = self.nodes[0].status()?;
        status["active"]["sequence"].as_u64().context("no active snapshot")
    }

    /// A change by an operator that every node must come to know: shows that publication works.
    pub fn publishes(&self) -> Result<()> {
        let before = self.version()?;
        let region = format!("r{before}");
        self.control.rapctl(&format!("node update n2 --cluster {CLUSTER} --region {region}"))?;
        self.nodes[0].wait_status("hears of a change", crate::fabric::SETTLE, |_, status| {
            status["active"]["sequence"].as_u64() > Some(before)
        })?;
        Ok(())
    }
}

pub const CLUSTER: &str = "prod";
