//! What others change at the overlay interface is put right at once, and left alone when they insist.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::scene::Scene;
use super::shown::{half, shown};
use crate::check::Finding;
use crate::fabric::{CALL, Health, Node, SETTLE};
use crate::wait::{now, wait_until};

/// The interface is set down, its route is removed, IPv6 is switched off and on; then its addresses are removed again and again.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let [one, two] = &scene.nodes;
    let route = one.host().typed("ip -4 route show dev rap0 proto 82", CALL)?.stdout;
    let route = route.split_whitespace().next().unwrap_or_default().to_owned();
    let mut took = Vec::new();
    for line in [
        "ip link set rap0 down".to_owned(),
        format!("ip route del {route} dev rap0"),
        "sysctl -qw net.ipv6.conf.rap0.disable_ipv6=1 net.ipv6.conf.rap0.disable_ipv6=0".to_owned(),
    ] {
        one.host().typed(&line, CALL)?;
        took.push(whole(one, &route)?.as_millis() as u64);
        one.wait_answer(two)?;
    }
    let (health, status) = one.status()?;
    let effect = half(
        health == Health::Healthy && status["dataplane"]["host"] == json!([]),
        json!({ "whole_after_ms": took, "host": status["dataplane"]["host"] }),
    );
    let reason = contested(one, &route)?;
    let last = one.host().typed("ip -o address show dev rap0", CALL)?.stdout;
    let control = half(
        reason == json!(["interface.contested"]) && last.is_empty(),
        json!({ "degraded_reasons": reason, "left_alone": last.is_empty() }),
    );
    // The next data plane begins anew.
    one.dataplane(scene.lab)?.signal(rustix::process::Signal::KILL);
    one.wait_healthy()?;
    one.wait_answer(two)?;
    Ok(shown(
        effect,
        control,
        "three changes are put right; against somebody who insists the node is degraded and lets go",
    ))
}

/// Waits until the interface is up with both addresses and routes.
fn whole(node: &Node, route: &str) -> Result<Duration> {
    let started = now();
    wait_until(SETTLE, "the interface is whole", || {
        let shown = |line: &str| -> Result<String> { Ok(node.host().typed(line, CALL)?.stdout) };
        let addresses = shown("ip -o address show dev rap0")?;
        let routes = shown("ip -4 route show dev rap0")? + &shown("ip -6 route show dev rap0")?;
        let is_whole = addresses.lines().count() == 2 && routes.contains(route) && routes.contains("/48");
        Ok(is_whole.then_some(()))
    })?;
    Ok(started.elapsed())
}

/// Removes the addresses until the node is degraded.
fn contested(node: &Node, route: &str) -> Result<Value> {
    for _ in 0..MOST {
        node.host().typed("ip address flush dev rap0", CALL)?;
        let reasons = wait_until(SETTLE, "put right or left alone", || {
            let (_, status) = node.status()?;
            let reasons = status["degraded_reasons"].clone();
            Ok((reasons != json!([]) || whole_now(node, route)?).then_some(reasons))
        })?;
        if reasons != json!([]) {
            return Ok(reasons);
        }
    }
    Ok(Value::Null)
}

fn whole_now(node: &Node, route: &str) -> Result<bool> {
    let addresses = node.host().typed("ip -o address show dev rap0", CALL)?.stdout;
    let routes = node.host().typed("ip -4 route show dev rap0", CALL)?.stdout;
    Ok(addresses.lines().count() == 2 && routes.contains(route))
}

/// More than are put right.
const MOST: usize = 7;
