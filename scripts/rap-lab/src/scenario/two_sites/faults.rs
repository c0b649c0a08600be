//! A relay that is gone under running traffic: killed, which is told at once, and cut off, which nobody tells.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::scene::Scene;
use crate::check::Finding;
use crate::fabric::{Node, Session, Way, under_traffic};

/// The relay's processes end. Traffic goes on through the other one.
pub fn killed(scene: &Scene<'_>) -> Result<Finding> {
    let value = moved(
        scene,
        KILLED,
        |relay| {
            relay.kill_all(scene.lab)?;
            Ok(())
        },
        |relay| {
            relay.run()?;
            relay.wait_healthy().map(drop)
        },
    )?;
    Ok(Finding::new(true, value, "same sockets, equal SHA-256, no datagram twice; at most 1 s of silence"))
}

/// The same under an ssh session, which goes on as well.
pub fn killed_under_ssh(scene: &Scene<'_>) -> Result<Finding> {
    let [a, b] = &scene.sites;
    let session = Session::open(a, b)?;
    let mut finding = killed(scene)?;
    finding.value["ssh"] = session.end()?;
    finding.note = format!("{}; one ssh session, no number left out", finding.note);
    Ok(finding)
}

/// The relay's line is dead and nobody says so.
pub fn cut_silently(scene: &Scene<'_>) -> Result<Finding> {
    let value = moved(
        scene,
        SILENT,
        |relay| scene.lab.cut(relay.name(), None),
        |relay| scene.lab.heal(relay.name(), None),
    )?;
    Ok(Finding::new(true, value, "same sockets, equal SHA-256, no datagram twice; at most 2 s of silence"))
}

/// Takes the relay in use away under running streams, waits until the other one is used, and puts it back.
pub fn moved(
    scene: &Scene<'_>,
    bar: Duration,
    take: impl FnOnce(&Node) -> Result<()>,
    give_back: impl FnOnce(&Node) -> Result<()>,
) -> Result<Value> {
    let [a, b] = &scene.sites;
    let (relay, other) = scene.relay_in_use()?;
    let noticed = under_traffic(
        [a, b],
        || take(relay),
        || {
            let used = |way: &Way| way.via.as_slice() == [other.name().to_owned()];
            scene.wait_way("the other relay is used", Duration::from_secs(20), used).map(drop)
        },
        || give_back(relay),
    )?;
    scene.wait_homes()?;
    noticed.within(bar)?;
    scene.nothing_direct()?;
    Ok(json!({ "from": relay.name(), "to": other.name(), "noticed": noticed.value() }))
}

const KILLED: Duration = Duration::from_secs(1);
const SILENT: Duration = Duration::from_secs(2);
