//! One enrolled node in the attacker's hands.

use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;

use super::scene::{CLUSTER, Scene};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Node, Pings, SETTLE};
use crate::mode::Mode;
use crate::wait::{now, wait_until};

/// It sends packets with another node's address; its own still arrive.
pub fn spoofed_source(scene: &Scene<'_>) -> Result<Finding> {
    let [one, two, thief] = &scene.nodes;
    if scene.lab.mode() != Mode::Namespaces {
        return Ok(Finding::new(
            true,
            json!(null),
            "left out: without a TUN device a host has no packets of its own",
        ));
    }
    thief.wait_answer(one)?;
    let (target, other) = (one.overlay_address(thief)?, two.overlay_address(thief)?);
    let shell = |line: &str| thief.host().run(&Invocation::new("sh").arguments(["-c", line]), CALL);
    shell(&format!("ip address add {other}/32 dev rap0"))?.success()?;
    let spoofed = shell(&format!("ping -n -O -i 0.05 -W 1 -c {PINGS} -I {other} {target}"))?;
    shell(&format!("ip address del {other}/32 dev rap0"))?.success()?;
    let spoofed = Pings::read(&spoofed.stdout, Some(PINGS));
    let own = thief.ping(one, PINGS)?;
    let value = json!({ "spoofed": spoofed.sent, "spoofed_answered": spoofed.answered.len(), "own_answered": own.answered.len() });
    let ok = spoofed.answered.is_empty() && own.lost() == 0;
    Ok(Finding::new(ok, value, "an inner source must belong to the node that sends it"))
}

/// Its whole disk runs elsewhere until it is revoked; then it is out, for ever and within a second.
pub fn stolen_identity(scene: &Scene<'_>) -> Result<Finding> {
    let [one, _, owner] = &scene.nodes;
    owner.kill_all(scene.lab)?;
    let thief = Node::configure_strict(scene.lab, "thief")?;
    let (from, to) = (owner.host().folder("lib"), thief.host().folder("lib"));
    let copied = Command::new("cp").arg("-a").arg(from.join("agent")).arg(&to).status()?;
    ensure!(copied.success(), "copying the stolen disk failed");
    thief.run()?;
    thief.wait_answer(one)?;
    let address = one.overlay_address(&thief)?;

    let started = now();
    scene
        .control
        .rapctl(&format!("node revoke {} --cluster {CLUSTER} --ban --yes --reason stolen", owner.name()))?;
    let answered = started.elapsed();
    let id =
        |status: &serde_json::Value| status["peers"].to_string().contains(&format!("\"{}\"", owner.name()));
    one.wait_status("has dropped the stolen node", SETTLE, |_, status| !id(status))?;
    let dropped = started.elapsed();
    wait_until(SETTLE, "the thief hears nobody", || {
        let pings =
            if thief.has_tun() { Pings::of_host(&thief, &address, 1)? } else { thief.ping(one, 1)? };
        Ok(pings.answered.is_empty().then_some(()))
    })?;
    let (status, _) = thief.wait_status("says that it is revoked", SETTLE, |_, status| {
        status.to_string().contains("node.revoked")
    })?;
    let value = json!({
        "revoke_answered_ms": answered.as_millis() as u64, "peer_dropped_ms": dropped.as_millis() as u64,
        "connected": status["control"]["connected"],
    });
    let ok = status["control"]["connected"] != true;
    Ok(Finding::new(
        ok,
        value,
        "a stolen disk is that node until it is revoked; then peers and control plane refuse it",
    ))
}

const PINGS: usize = 10;
