//! The host's own networks win against an overlay pool, and nobody can cut an overlay by a route.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::scene::Scene;
use super::shown::{Half, half, shown};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Health, Node, Pace, SETTLE};
use crate::folder::write_secret;

/// A cluster whose pool is the host's LAN is refused; routes that come and go take their part only, and wider routes take nothing.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let control = refused_at_join(scene)?;
    let effect = at_run_time(scene)?;
    Ok(shown(
        effect,
        control,
        "a route inside the pool takes its part and gives it back, wider routes take nothing; a pool on the host's LAN is refused at join and spends no use",
    ))
}

fn at_run_time(scene: &Scene<'_>) -> Result<Half> {
    let [one, two] = &scene.nodes;
    let via = two.host().address();
    let watch = one.watch(scene.lab, two)?;
    let change =
        |verb: &str, prefix: &str| one.host().typed(&format!("ip route {verb} {prefix} via {via}"), CALL);
    for prefix in WIDER.iter().chain([&INSIDE]) {
        change("add", prefix)?;
    }
    let (status, took) = one.wait_status("leaves a part to the host", SETTLE, |_, status| {
        said(status, "overlay.host_conflict", INSIDE)
    })?;
    let named = said(&status, "overlay.shadows_route", "100.0.0.0/8");
    let halves = said(&status, "overlay.shadows_route", "0.0.0.0/1");
    let route = one.host().typed("ip route get 100.96.200.9", CALL)?.stdout;
    let (health, status) = one.status()?;
    let connected = status["control"]["connected"] == true;
    for prefix in WIDER.iter().chain([&INSIDE]) {
        change("del", prefix)?;
    }
    let (_, back) =
        one.wait_status("has the part back", SETTLE, |_, status| status["dataplane"]["host"] == json!([]))?;
    let again = one.host().typed("ip route get 100.96.200.9", CALL)?.stdout;
    let pings = watch.end()?;
    let ok = pings.lost() == 0
        && connected
        && health == Health::Healthy
        && named
        && !halves
        && took.as_secs() >= LASTS
        && route.contains("dev eth0")
        && again.contains("dev rap0");
    Ok(half(
        ok,
        json!({
            "counted_after_ms": took.as_millis() as u64, "over_after_ms": back.as_millis() as u64,
            "pings": pings.sent, "lost": pings.lost(), "control_connected": connected,
            "wider_route_named": named, "default_in_halves_named": halves,
        }),
    ))
}

fn refused_at_join(scene: &Scene<'_>) -> Result<Half> {
    let pace = Pace::default();
    scene.control.rapctl(&format!(
        "cluster create lan --ipv4-pool 10.77.0.0/25 --refresh-every {}ms --fresh-for {}ms",
        pace.refresh_every.as_millis(),
        pace.fresh_for.as_millis()
    ))?;
    let node = Node::configure_strict(scene.lab, "lan1")?;
    let token = scene.control.create_token("lan", "--auto-approve")?;
    write_secret(&node.host().folder("home").join("lan.token"), &token)?;
    let refused = node.host().run(&Invocation::typed("rap-node-agent join --token-file lan.token")?, CALL)?;
    ensure!(refused.code != Some(0), "the join was accepted");
    let used = scene.control.ask("token list --cluster lan")?;
    let used = used["tokens"].as_array().and_then(|tokens| tokens.first()).cloned().context("no token")?;
    let said = refused.stderr.contains("overlay.host_conflict") && refused.stderr.contains("10.77.0.0/24");
    let spent = used["uses"].as_u64().or_else(|| used["used"].as_u64());
    Ok(half(
        said && spent == Some(0),
        json!({ "exit": refused.code, "said": refused.stderr.trim(), "uses_spent": spent }),
    ))
}

fn said(status: &Value, reason: &str, about: &str) -> bool {
    let findings = status["dataplane"]["host"].as_array().map(Vec::as_slice).unwrap_or_default();
    findings.iter().any(|found| {
        found["reason"] == reason && found["text"].as_str().is_some_and(|text| text.contains(about))
    })
}

/// Wider than the pool: somebody's own network, and the default route of a VPN client.
const WIDER: [&str; 3] = ["100.0.0.0/8", "0.0.0.0/1", "128.0.0.0/1"];
/// A part of the pool without nodes.
const INSIDE: &str = "100.96.200.0/24";
/// Seconds until a conflict counts; the status is read again at most a second later.
const LASTS: u64 = 4;
