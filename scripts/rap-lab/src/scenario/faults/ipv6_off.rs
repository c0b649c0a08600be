//! A host without IPv6 is a node with IPv4.

use anyhow::{Context, Result};
use serde_json::json;

use super::scene::{CLUSTER, Scene};
use super::shown::{half, shown};
use crate::check::Finding;
use crate::fabric::{CALL, Node, SETTLE};

/// A host with IPv6 switched off joins, hears others over IPv4, says what is not applied, and leaves nothing behind when it leaves.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let [one, two] = &scene.nodes;
    let node = Node::configure_strict(scene.lab, "v4")?;
    node.host()
        .typed("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1", CALL)?;
    node.join(&scene.control.create_token(CLUSTER, "--auto-approve")?)?;
    node.run()?;
    node.wait_healthy()?;
    node.wait_answer(one)?;
    let pings = node.ping(one, 5)?;
    let (status, _) = node.wait_status("says what is not applied", SETTLE, |_, status| {
        status["dataplane"]["host"].to_string().contains("IPv6 is switched off")
    })?;
    node.host().typed("rap-node-agent leave --json", CALL)?;
    let left = node.host().typed("ip route show proto 82", CALL)?.stdout
        + &node.host().typed("nft list ruleset", CALL)?.stdout;
    let effect = half(
        pings.lost() == 0 && left.trim().is_empty(),
        json!({ "pings_lost": pings.lost(), "host": status["dataplane"]["host"], "left_behind": left.trim() }),
    );
    let (_, status) = one.status()?;
    let peers = ["active", "warm"].iter().filter_map(|tier| status["peers"][tier].as_array()).flatten();
    let address =
        peers.filter(|peer| peer["name"] == two.name()).find_map(|peer| peer["overlay_ipv6"].as_str());
    let address = address.context("the other's IPv6 address")?.split('/').next().unwrap_or_default();
    one.host().typed(&format!("ping -n -c 3 -i 0.2 -W 5 {address}"), CALL)?;
    let control = half(status["dataplane"]["host"] == json!([]), json!({ "ipv6_elsewhere": address }));
    Ok(shown(
        effect,
        control,
        "IPv4 works without IPv6 and status says what is missing; a host with IPv6 has both",
    ))
}
