//! What a cluster's policy says of degraded mode, and that nodes without a control plane do it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::scene::Scene;
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Node, Pings, SETTLE};
use crate::wait::{now, wait_until};

/// Policy ends probes at `fresh_until` and lets peers of one role outlast `degraded_until`; then the control
/// plane goes, until also the node's own certificate has ended.
pub fn policy(scene: &Scene<'_>) -> Result<Finding> {
    let control = &scene.control;
    control.rapctl(&format!(
        "cluster create {BRIEF} --ipv4-pool 100.98.0.0/16 --refresh-every 1s --fresh-for 6s --degraded-for 10s --leaf-lifetime {LEAF}"
    ))?;
    control.refuses(&format!("cluster policy {BRIEF} --degraded-ends probe,probes"), "request.invalid")?;
    control.refuses(&format!("cluster policy {BRIEF} --degraded-ends lease"), "request.invalid")?;
    ensure!(ends(scene)?.is_empty(), "a refused word changed the policy");
    let set = format!("cluster policy {BRIEF} --degraded-ends probe --survive-forever-role egress");
    control.rapctl(&set)?;
    let names = [("b1", "egress"), ("b2", "egress"), ("b3", "entry-node")];
    let nodes: Vec<Node> = names
        .iter()
        .map(|(name, role)| {
            let node = Node::configure_strict(scene.lab, name)?;
            node.join(&control.create_token(BRIEF, &format!("--role {role} --auto-approve"))?)?;
            node.run()?;
            Ok(node)
        })
        .collect::<Result<_>>()?;
    let [asks, stays, goes] = nodes.as_slice() else { anyhow::bail!("three nodes") };
    for peer in [stays, goes] {
        linked(asks, peer, true)?;
        asks.wait_answer(peer)?;
    }
    control.kill_with_postgres(scene.lab)?;
    let found = without_control(asks, stays, goes);
    // Whatever was found: the checks after this one need the control plane.
    control.restart(scene.lab)?;
    control.wait_answering()?;
    let mut value = found?;
    asks.wait_healthy()?;
    asks.wait_answer(goes)?;
    for node in &scene.nodes {
        node.wait_healthy()?;
    }
    control.rapctl(&format!("cluster policy {BRIEF} --clear-degraded-ends --clear-survive-forever-roles"))?;
    ensure!(ends(scene)?.is_empty(), "the policy was not cleared");
    value["heard_again"] = json!(true);
    Ok(Finding::new(
        true,
        value,
        "probes ended with the head's freshness; after degraded_until only the peer that policy marks was left; link and tunnel to it ended with the node's own certificate",
    ))
}

fn without_control(asks: &Node, stays: &Node, goes: &Node) -> Result<Value> {
    let started = now();
    let state = |wanted: &'static str| {
        asks.wait_status(&format!("is {wanted}"), SETTLE, move |_, status| {
            status["freshness"]["state"] == wanted
        })
    };
    state("degraded")?;
    let degraded = started.elapsed();
    let refused = Invocation::typed("rap-node-agent ping b2 --count 1")?;
    let refused = asks.host().run(&refused, CALL)?;
    ensure!(refused.stderr.contains("degraded.refused"), "a probe was allowed: {}", refused.stderr.trim());
    // Only probes end: what carries traffic goes on, to both.
    for peer in [stays, goes] {
        linked(asks, peer, true)?;
        if asks.has_tun() {
            let pings = Pings::of_host(asks, &peer.overlay_address(asks)?, 3)?;
            ensure!(pings.lost() == 0, "{} is not heard while degraded", peer.name());
        }
    }
    state("expired")?;
    linked(asks, goes, false)?;
    let expired = started.elapsed();
    linked(asks, stays, true)?;
    let mut answered = Value::Null;
    if asks.has_tun() {
        let gone = Pings::of_host(asks, &goes.overlay_address(asks)?, 3)?;
        ensure!(gone.answered.is_empty(), "{} is heard after degraded_until", goes.name());
        let left = Pings::of_host(asks, &stays.overlay_address(asks)?, 10)?;
        ensure!(left.lost() == 0, "{} is not heard after degraded_until", stays.name());
        answered = json!(left.answered.len());
    }
    // For ever is as long as the own certificate: without contact there is no other.
    linked(asks, stays, false)?;
    let ended = started.elapsed();
    if asks.has_tun() {
        let address = stays.overlay_address(asks)?;
        wait_until(SETTLE, "the survivor is heard no more", || {
            Ok(Pings::of_host(asks, &address, 3)?.answered.is_empty().then_some(()))
        })?;
    }
    Ok(json!({
        "degraded_ms": degraded.as_millis() as u64, "expired_ms": expired.as_millis() as u64,
        "survivor_answered": answered, "survivor_ended_ms": ended.as_millis() as u64,
    }))
}

/// Waits until a link is there, or is not.
pub(super) fn linked(from: &Node, to: &Node, wanted: bool) -> Result<()> {
    let what = format!("{} {} a link to {}", from.name(), if wanted { "has" } else { "has not" }, to.name());
    wait_until(LINK, &what, || {
        let (_, status) = from.status()?;
        let links = status["links"].as_array().context("links")?;
        let there = links.iter().any(|link| link["name"] == to.name() && link["state"] == "established");
        Ok((there == wanted).then_some(()))
    })
}

fn ends(scene: &Scene<'_>) -> Result<Vec<Value>> {
    let shown = scene.control.ask(&format!("cluster policy {BRIEF}"))?;
    shown["degraded_ends"].as_array().cloned().context("degraded_ends")
}

const BRIEF: &str = "brief";
/// A node without contact has at least half of it left: more than degraded mode takes.
const LEAF: &str = "70s";
const LINK: Duration = SETTLE;
