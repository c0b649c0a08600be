//! Without a data plane nothing that was meant for the overlay leaves in clear.

use anyhow::{Context, Result};
use serde_json::json;

use super::scene::Scene;
use super::shown::{half, shown};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Node};
use crate::host::Host;
use crate::lab::Lab;

/// The data plane of a host with a default route is gone; a neighbour that is this route counts what reaches it.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let [one, two] = &scene.nodes;
    let (address, gateway) = (two.overlay_address(one)?, scene.control.host());
    one.host().typed(&format!("ip route add default via {}", gateway.address()), CALL)?;
    count(gateway, &address)?;
    one.kill_all(scene.lab)?;
    let measured = without_dataplane(one, gateway, &address);
    // Whatever was found: the checks after this one need the node.
    gateway.typed("nft delete table inet counted", CALL)?;
    one.host().typed("ip route del default", CALL)?;
    let (effect, control) = measured?;
    back(one, two, scene.lab)?;
    Ok(shown(
        half(effect == (true, 0), json!({ "refused_by_the_host": effect.0, "seen_in_clear": effect.1 })),
        half(control > 0, json!({ "seen_in_clear_without_the_route": control })),
        "without its data plane no packet for the overlay leaves the host; without the unreachable route it does",
    ))
}

/// Whether the host refuses and what the gateway saw; and what it saw once the unreachable routes were removed.
fn without_dataplane(one: &Node, gateway: &Host, address: &str) -> Result<((bool, u64), u64)> {
    let ping = Invocation::typed(&format!("ping -n -c 3 -i 0.2 -W 1 {address}"))?;
    let refused = one.host().run(&ping, CALL)?.code != Some(0);
    let seen = counted(gateway)?;
    let left = one.host().typed("ip route show type unreachable proto 82", CALL)?.stdout;
    for line in left.lines() {
        let prefix = line.split_whitespace().nth(1).context("an unreachable route")?;
        one.host().typed(&format!("ip route del unreachable {prefix} metric 1000000"), CALL)?;
    }
    one.host().run(&ping, CALL)?;
    Ok(((refused, seen), counted(gateway)?))
}

/// Counts packets for an address as they arrive.
fn count(host: &Host, address: &str) -> Result<()> {
    for line in [
        "add table inet counted".to_owned(),
        "add chain inet counted seen { type filter hook prerouting priority -400 ; }".to_owned(),
        format!("add rule inet counted seen ip daddr {address} counter"),
    ] {
        host.run(&Invocation::new("nft").argument(line), CALL)?.success()?;
    }
    Ok(())
}

fn counted(host: &Host) -> Result<u64> {
    let shown = host.typed("nft list table inet counted", CALL)?.stdout;
    let number = shown.split_once("counter packets ").and_then(|(_, rest)| rest.split_whitespace().next());
    Ok(number.context("no counter")?.parse()?)
}

/// Starts the node again.
pub fn back(one: &Node, two: &Node, lab: &Lab) -> Result<()> {
    one.agent(lab)?.restart()?;
    one.wait_healthy()?;
    one.wait_answer(two)?;
    Ok(())
}
