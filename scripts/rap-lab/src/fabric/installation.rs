//! A control plane and a node on every host of a topology, joined and healthy.

use anyhow::{Context, Result};

use super::{Control, Node, Pace};
use crate::lab::Lab;
use crate::topology::{Role, Topology};

/// See the module.
#[derive(Debug, Clone)]
pub struct Installation {
    /// On a host that everybody hears.
    pub control: Control,
    /// The nodes that carry for others, in the order of the topology.
    pub relays: Vec<Node>,
    /// The others.
    pub nodes: Vec<Node>,
}

impl Installation {
    /// Makes the hosts of a topology, cuts those from each other that do not hear each other, and installs. `settings` are lines for
    /// the agents of one role.
    pub fn make(
        lab: &Lab,
        topology: &Topology,
        (cluster, pace): (&str, Pace),
        settings: impl Fn(Role) -> String,
    ) -> Result<Self> {
        for place in &topology.places {
            match place.router {
                Some(router) => lab.host_behind(router, place.name)?,
                None => lab.host(place.name)?,
            };
            if place.role == Role::Relay {
                lab.count_port(place.name, LINK_PORT)?;
            }
        }
        let apart = topology.pairs().into_iter().filter(|(one, other)| !topology.graph.linked(one, other));
        for (one, other) in apart {
            lab.cut(one, Some(other))?;
        }
        let control = Control::start(lab, "cp")?;
        control.create_cluster(cluster, pace)?;
        let uses = topology.places.len();
        let [relay, plain] = ["--role relay-node ", ""]
            .map(|role| control.create_token(cluster, &format!("{role}--auto-approve --uses {uses}")));
        let tokens = [relay?, plain?];
        let (mut relays, mut nodes) = (Vec::new(), Vec::new());
        for place in &topology.places {
            let mut lines = settings(place.role);
            if !place.region.is_empty() {
                lines.push_str(&format!("region = \"{}\"\n", place.region));
            }
            let node = match place.router {
                Some(router) => Node::configure_behind(lab, router, place.name, &lines)?,
                None if place.dialled => Node::configure_more(lab, place.name, &lines)?,
                None => Node::configure_silent(lab, place.name, &lines)?,
            };
            let (token, list) = match place.role {
                Role::Relay => (&tokens[0], &mut relays),
                Role::Plain => (&tokens[1], &mut nodes),
            };
            node.join(token).with_context(|| format!("{} joins", place.name))?;
            node.run()?;
            list.push(node);
        }
        let installation = Self { control, relays, nodes };
        for node in installation.all() {
            node.wait_healthy()?;
        }
        Ok(installation)
    }

    /// Relays first.
    pub fn all(&self) -> impl Iterator<Item = &Node> {
        self.relays.iter().chain(&self.nodes)
    }

    /// The relay of this name.
    pub fn relay(&self, name: &str) -> Result<&Node> {
        let found = self.relays.iter().find(|relay| relay.name() == name);
        found.with_context(|| format!("{name} is no relay"))
    }
}

const LINK_PORT: u16 = 7443;
