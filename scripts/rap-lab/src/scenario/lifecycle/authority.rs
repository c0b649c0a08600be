//! The cluster's authority key is replaced: in order, past a sleeper, and after its loss.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::scene::{CLUSTER, Scene};
use crate::check::Finding;
use crate::fabric::SETTLE;
use crate::wait::{now, wait_until};

/// A rotation while pings go on: every node confirms, then the old key is retired and erased.
pub fn rotation(scene: &Scene<'_>) -> Result<Finding> {
    let (one, two) = scene.pair()?;
    let watch = one.watch(scene.lab, two)?;
    let started = now();
    let (first, second) = rotate(scene)?;
    let answered = started.elapsed();
    wait_confirmed(scene)?;
    let confirmed = started.elapsed();
    scene.control.rapctl(&format!("authority taint --cluster {CLUSTER}"))?;
    scene.control.rapctl(&format!("authority revoke --cluster {CLUSTER}"))?;
    for node in &scene.nodes {
        node.wait_status("pins the new key", SETTLE, |_, status| status.to_string().contains(&second))?;
        node.wait_healthy()?;
    }
    watch.wait_answers(20)?;
    let pings = watch.end()?;
    let value = json!({
        "answered_ms": answered.as_millis() as u64, "confirmed_ms": confirmed.as_millis() as u64,
        "pings": pings.sent, "lost": pings.lost(),
    });
    Ok(Finding::new(
        first != second && pings.lost() == 0,
        value,
        "every node confirmed the new key; no ping was lost",
    ))
}

/// A node is off during two rotations and walks the chain when it returns.
pub fn slept_through(scene: &Scene<'_>) -> Result<Finding> {
    let sleeper = scene.nodes.last().context("no node")?;
    let (_, before) = sleeper.status()?;
    sleeper.kill_all(scene.lab)?;
    let (_, newest) = (rotate(scene)?, rotate(scene)?.1);
    sleeper.agent(scene.lab)?.restart()?;
    let started = now();
    let (status, _) = sleeper.wait_healthy()?;
    scene.nodes[0].wait_answer(sleeper)?;
    let walked = status.to_string().contains(&newest);
    let value = json!({
        "healthy_ms": started.elapsed().as_millis() as u64,
        "before": before["active"]["sequence"], "after": status["active"]["sequence"],
    });
    wait_confirmed(scene)?;
    Ok(Finding::new(walked, value, "two records later it pins the newest key and is heard again"))
}

/// The key is lost: the installation authority vouches for another, and every earlier one is revoked.
pub fn recovery(scene: &Scene<'_>) -> Result<Finding> {
    let (one, two) = scene.pair()?;
    let watch = one.watch(scene.lab, two)?;
    let started = now();
    scene.control.rapctl(&format!("authority recover --cluster {CLUSTER} --yes --reason drill"))?;
    wait_confirmed(scene)?;
    for node in &scene.nodes {
        node.wait_healthy()?;
    }
    let took = started.elapsed();
    watch.wait_answers(20)?;
    let pings = watch.end()?;
    let states: Vec<Value> = keys(scene)?.iter().map(|key| key["state"].clone()).collect();
    let active = states.iter().filter(|state| *state == "active").count();
    let revoked = states.iter().filter(|state| *state == "revoked").count();
    let ok = active == 1 && revoked + 1 == states.len() && pings.lost() == 0;
    let value = json!({ "settled_ms": took.as_millis() as u64, "states": states, "pings": pings.sent, "lost": pings.lost() });
    Ok(Finding::new(ok, value, "nodes follow the installation authority's word; no ping was lost"))
}

/// Rotates; returns the active key's id before and after.
fn rotate(scene: &Scene<'_>) -> Result<(String, String)> {
    let before = active(scene)?;
    scene.control.rapctl(&format!("authority rotate --cluster {CLUSTER} --yes --reason drill"))?;
    Ok((before, active(scene)?))
}

fn active(scene: &Scene<'_>) -> Result<String> {
    let keys = keys(scene)?;
    let active = keys.iter().find(|key| key["signs"] == true).context("no key signs")?;
    Ok(active["key_id"].as_str().context("key id")?.to_owned())
}

fn keys(scene: &Scene<'_>) -> Result<Vec<Value>> {
    let listed = scene.control.ask(&format!("authority list --cluster {CLUSTER}"))?;
    listed["keys"].as_array().cloned().context("keys")
}

fn wait_confirmed(scene: &Scene<'_>) -> Result<()> {
    wait_until(SETTLE, "every node confirms the newest record", || {
        let answer = scene.control.ask(&format!("authority confirmations --cluster {CLUSTER}"))?;
        let nodes = answer["nodes"].as_array().context("nodes")?;
        let confirmed = nodes.iter().all(|node| node["record"] == answer["record"]);
        Ok((!nodes.is_empty() && confirmed).then_some(()))
    })
}
