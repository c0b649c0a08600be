//! The installation: control plane and relays outside, one node in each site.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::fabric::{Control, Installation, Node, Pace, SETTLE, Way};
use crate::lab::Lab;
use crate::topology::{Role, Topology};

/// Both sites joined, and the traffic between them passes a relay.
pub struct Scene<'a> {
    pub lab: &'a Lab,
    pub control: Control,
    pub relays: [Node; 2],
    /// One node in each site.
    pub sites: [Node; 2],
}

/// Makes the installation.
pub fn prepare(lab: &Lab) -> Result<Scene<'_>> {
    for (router, site) in ROUTERS.iter().zip(SITES) {
        lab.host_behind(router, site)?;
    }
    lab.count_udp(ROUTERS[0], ROUTERS[1])?;
    let pace = Pace { refresh_every: Duration::from_secs(5), fresh_for: FRESH_FOR };
    let lifetime = format!("path_lifetime_seconds = {}\n", PATH_LIFETIME.as_secs());
    let made = Installation::make(lab, &Topology::two_sites(), (CLUSTER, pace), |role| match role {
        Role::Relay => lifetime.clone(),
        // Sites say by which labels they ask for paths.
        Role::Plain => format!("{lifetime}log = \"info,rap_mesh=debug\"\n"),
    })?;
    let two = |nodes: Vec<Node>| <[Node; 2]>::try_from(nodes).ok().context("two of each");
    let scene = Scene { lab, control: made.control, relays: two(made.relays)?, sites: two(made.nodes)? };
    scene.wait_homes()?;
    Ok(scene)
}

impl Scene<'_> {
    /// Waits until both sites are linked with both relays.
    pub fn wait_homes(&self) -> Result<()> {
        for site in &self.sites {
            site.wait_status("is linked with both relays", SETTLE, |_, status| {
                RELAYS.iter().all(|relay| link_state(status, relay) == "established")
            })?;
        }
        Ok(())
    }

    /// Waits until the first site says that the way is as wanted.
    pub fn wait_way(&self, what: &str, deadline: Duration, wanted: impl Fn(&Way) -> bool) -> Result<Way> {
        let [a, b] = &self.sites;
        a.wait_way_to(b, what, deadline, wanted)
    }

    /// The relay that the traffic of the first site passes now, and the other one.
    pub fn relay_in_use(&self) -> Result<(&Node, &Node)> {
        let way =
            self.wait_way("a relay is in use", SETTLE, |way| way.kind == "relayed" && way.via.len() == 1)?;
        let at = self.relays.iter().position(|relay| relay.name() == way.via[0]);
        let at = at.with_context(|| format!("{:?} is no relay", way.via))?;
        Ok((&self.relays[at], &self.relays[1 - at]))
    }

    /// UDP packets between the sites since the start: from outside, and over a line.
    pub fn udp_between(&self) -> Result<[u64; 2]> {
        let [a, b] = [self.lab.udp_heard(ROUTERS[0])?, self.lab.udp_heard(ROUTERS[1])?];
        Ok([a[0] + b[0], a[1] + b[1]])
    }

    /// Fails if a UDP packet of one site reached the other's router from outside.
    pub fn nothing_direct(&self) -> Result<()> {
        let [outside, _] = self.udp_between()?;
        ensure!(outside == 0, "{outside} UDP packets went from router to router");
        Ok(())
    }
}

fn link_state<'a>(status: &'a Value, peer: &str) -> &'a str {
    let links = status["links"].as_array().map(Vec::as_slice).unwrap_or_default();
    links.iter().find(|link| link["name"] == peer).and_then(|link| link["state"].as_str()).unwrap_or_default()
}

pub const CLUSTER: &str = "two-sites";
pub const RELAYS: [&str; 2] = ["r1", "r2"];
pub const ROUTERS: [&str; 2] = ["ga", "gb"];
pub const SITES: [&str; 2] = ["a", "b"];
/// How long a head is fresh, so that an outage of two minutes passes it.
pub const FRESH_FOR: Duration = Duration::from_secs(20);
/// How long a path lives, so that an outage of two minutes passes several renewals.
pub const PATH_LIFETIME: Duration = Duration::from_secs(40);
