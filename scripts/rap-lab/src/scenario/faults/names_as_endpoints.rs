//! A peer that is known by name alone is found by its name, also after the name got another address.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::scene::{CLUSTER, Scene, leave};
use super::shown::{Half, half, shown};
use crate::check::Finding;
use crate::fabric::{CALL, Node, SETTLE};

/// A node advertises its name. It moves to another address, out of reach of its control plane and without a dial of its own: only
/// the name tells where it is.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let one = &scene.nodes[0];
    let node = named(scene)?;
    let joined_by_name = one.wait_answer(&node)?;
    let names = scene.lab.folder().skeleton("etc").join("hosts");
    let before = fs::read_to_string(&names).context("names of hosts")?;
    let old = node.host().address().to_string();
    scene.lab.cut(NAME, Some(scene.control.host().name()))?;
    renumber(&node, &old, MOVED)?;
    let measured = moved(one, &node, || {
        let line = |address: &str| format!("{address} {NAME}\n");
        Ok(fs::write(&names, before.replace(&line(&old), &line(MOVED)))?)
    });
    fs::write(&names, &before)?;
    renumber(&node, MOVED, &old)?;
    node.host().typed("nft delete table inet silent", CALL)?;
    scene.lab.heal(NAME, Some(scene.control.host().name()))?;
    let (effect, control) = measured?;
    node.wait_healthy()?;
    leave(scene, &node, NAME)?;
    let note = "a peer is dialled by its name, and a while after the name changed at its new address";
    let mut found = shown(effect, control, note);
    found.value["heard_by_name_after_ms"] = json!(joined_by_name.as_millis() as u64);
    Ok(found)
}

/// A node that is known by its name, at whatever address, and that begins no link and no tunnel itself from now on.
fn named(scene: &Scene<'_>) -> Result<Node> {
    let node = Node::configure_strict(scene.lab, NAME)?;
    let (file, address) = (node.host().folder("etc").join("agent.toml"), node.host().address());
    let mut settings = fs::read_to_string(&file)?;
    for (port, what) in [(7443, "link"), (51820, "wireguard")] {
        settings = settings.replace(&format!("[\"{address}:{port}\"]"), &format!("[\"{NAME}:{port}\"]"));
        settings =
            settings.replace(&format!("listen_{what} = \"{address}"), &format!("listen_{what} = \"0.0.0.0"));
    }
    fs::write(&file, settings)?;
    for line in [
        "nft add table inet silent",
        "nft add chain inet silent out { type filter hook output priority 0 ; }",
        "nft add rule inet silent out ct state new tcp dport 7443 drop",
        "nft add rule inet silent out ct state new udp dport 51820 drop",
    ] {
        node.host().typed(line, CALL)?;
    }
    node.join(&scene.control.create_token(CLUSTER, "--auto-approve")?)?;
    node.run()?;
    node.wait_healthy()?;
    Ok(node)
}

/// What is heard of the node before its name changes, and after it.
fn moved(one: &Node, node: &Node, rename: impl FnOnce() -> Result<()>) -> Result<(Half, Half)> {
    one.wait_status("has lost the link", SETTLE, |_, status| {
        let links = status["links"].as_array().map(Vec::as_slice).unwrap_or_default();
        links.iter().all(|link| link["name"] != NAME || link["state"] != "established")
    })?;
    let lost = one.ping(node, UNHEARD)?;
    let control = half(
        lost.answered.is_empty(),
        json!({ "pings_before_the_name_changed": lost.sent, "answered": lost.answered.len() }),
    );
    rename()?;
    let took = one.wait_answer(node)?;
    one.wait_status("has the link", SETTLE, |_, status| {
        let links = status["links"].as_array().map(Vec::as_slice).unwrap_or_default();
        links.iter().any(|link| link["name"] == NAME && link["state"] == "established")
    })?;
    let effect = half(took < LONGEST, json!({ "heard_after_ms": took.as_millis() as u64 }));
    Ok((effect, control))
}

fn renumber(node: &Node, from: &str, to: &str) -> Result<()> {
    node.host().typed(&format!("ip address del {from}/24 dev eth0"), CALL)?;
    node.host().typed(&format!("ip address add {to}/24 dev eth0"), CALL)?;
    Ok(())
}

const NAME: &str = "named";
/// No host of the lab has it.
const MOVED: &str = "10.77.0.240";
/// 50 ms apart.
const UNHEARD: usize = 40;
/// A failed dial asks for the name again.
const LONGEST: Duration = Duration::from_secs(45);
