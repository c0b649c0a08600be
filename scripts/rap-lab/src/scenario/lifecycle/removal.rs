//! Nodes that go: revoked, evicted, with their token, by absence, by their own wish; and keys that are replaced.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::scene::{CLUSTER, Scene};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Pings, SETTLE};
use crate::wait::{now, wait_until};

/// Identity and WireGuard key are replaced while pings go on.
pub fn key_rotation(scene: &Scene<'_>) -> Result<Finding> {
    let (one, two) = scene.pair()?;
    let before = scene.shown(two.name())?;
    let watch = one.watch(scene.lab, two)?;
    two.host().typed("rap-node-agent key rotate --wireguard", CALL)?;
    let wireguard = wait_until(SETTLE, "pings under the new WireGuard key", || {
        watch.wait_answers(10)?;
        Ok(Some(scene.shown(two.name())?))
    })?;
    two.host().typed("rap-node-agent key rotate --identity", CALL)?;
    two.wait_healthy()?;
    watch.wait_answers(20)?;
    let after = scene.shown(two.name())?;
    let pings = watch.end()?;
    let same_id = before["node_id"] == after["node_id"];
    let new_key =
        after["node_fingerprint"].is_string() && before["node_fingerprint"] != after["node_fingerprint"];
    let value = json!({
        "pings": pings.sent, "lost": pings.lost(), "same_node_id": same_id, "new_identity_key": new_key,
        "status": wireguard["identity_status"],
    });
    Ok(Finding::new(same_id && new_key, value, "the node keeps its id and address under new keys"))
}

/// Without an answer nothing that cannot be undone is done, and the question says what it would be.
pub fn acts_ask_first(scene: &Scene<'_>) -> Result<Finding> {
    let (_, two) = scene.pair()?;
    let keys = || scene.control.ask(&format!("authority list --cluster {CLUSTER}"));
    let before = keys()?;
    let revoke = format!("node revoke {} --cluster {CLUSTER}", two.name());
    for (words, question) in [
        (revoke.clone(), "its key never returns"),
        (format!("{revoke} --evict"), "it may ask to join again"),
        (format!("authority rotate --cluster {CLUSTER}"), "Replace the authority"),
    ] {
        scene.control.refuses(&format!("{words} --reason drill"), question)?;
    }
    let state = scene.shown(two.name())?["identity_status"].clone();
    let same = keys()? == before;
    let value = json!({ "identity_status": state, "keys_unchanged": same });
    Ok(Finding::new(
        state == "active" && same,
        value,
        "a ban, an eviction and a rotation ask, and say what they end",
    ))
}

/// A revoked node loses every link and its tunnel.
pub fn revocation(scene: &Scene<'_>) -> Result<Finding> {
    let (one, two) = scene.pair()?;
    let gone = scene.new_node("v1", "--auto-approve")?;
    for peer in [one, two] {
        gone.wait_answer(peer)?;
    }
    let address = one.overlay_address(&gone)?;
    let started = now();
    scene.control.rapctl(&format!("node revoke v1 --cluster {CLUSTER} --yes --reason drill"))?;
    let answered = started.elapsed();
    let dropped: Vec<u64> = [one, two]
        .map(|peer| scene.wait_forgets(peer, "v1").map(|_| started.elapsed().as_millis() as u64))
        .into_iter()
        .collect::<Result<_>>()?;
    wait_until(SETTLE, "the revoked node hears nobody", || {
        let pings = if gone.has_tun() { Pings::of_host(&gone, &address, 1)? } else { gone.ping(one, 1)? };
        Ok(pings.answered.is_empty().then_some(()))
    })?;
    gone.wait_status("says why", SETTLE, |_, status| status.to_string().contains("node.revoked"))?;
    let state = scene.shown("v1")?["identity_status"].clone();
    let value = json!({ "answered_ms": answered.as_millis() as u64, "dropped_ms": dropped, "identity_status": state });
    Ok(Finding::new(
        state == "revoked",
        value,
        "peers closed the link and removed the tunnel; the node says node.revoked",
    ))
}

/// An evicted node is out, and says so.
pub fn eviction(scene: &Scene<'_>) -> Result<Finding> {
    let node = scene.new_node("e1", "--auto-approve")?;
    let first = scene.shown("e1")?;
    scene.control.rapctl(&format!("node revoke e1 --cluster {CLUSTER} --evict --yes --reason drill"))?;
    scene.wait_forgets(&scene.nodes[0], "e1")?;
    node.wait_status("says why", SETTLE, |_, status| status.to_string().contains("node.revoked"))?;
    let value =
        json!({ "node_id": first["node_id"], "identity_status": scene.shown("e1")?["identity_status"] });
    Ok(Finding::new(true, value, "evicted; its peers dropped it"))
}

/// A token is revoked together with the nodes it admitted.
pub fn token_with_nodes(scene: &Scene<'_>) -> Result<Finding> {
    let token =
        scene.control.ask(&format!("token create --cluster {CLUSTER} --ttl 1h --auto-approve --uses 5"))?;
    let (id, text) = (token["token_id"].as_str().context("id")?, token["token"].as_str().context("text")?);
    let hosts = ["w1", "w2"].map(|name| crate::fabric::Node::configure_strict(scene.lab, name));
    let [one, two] = hosts;
    let (one, two) = (one?, two?);
    for node in [&one, &two] {
        node.join(text.as_bytes())?;
        node.run()?;
        node.wait_healthy()?;
    }
    scene.control.rapctl(&format!("token revoke {id} --with-nodes --yes --reason drill"))?;
    for name in ["w1", "w2"] {
        scene.wait_forgets(&scene.nodes[0], name)?;
    }
    let late = crate::fabric::Node::configure_strict(scene.lab, "w3")?;
    let refused = late.join(text.as_bytes()).err().map(|error| error.to_string()).unwrap_or_default();
    let states: Vec<Value> = ["w1", "w2"]
        .iter()
        .map(|name| scene.shown(name).map(|node| node["identity_status"].clone()))
        .collect::<Result<_>>()?;
    let ok = refused.contains("token.revoked") && states.iter().all(|state| state == "revoked");
    Ok(Finding::new(ok, json!({ "states": states }), "its nodes are out, and it admits no other"))
}

/// An ephemeral node that stays away is removed.
pub fn ephemeral(scene: &Scene<'_>) -> Result<Finding> {
    // A check before this one may have started the control plane anew.
    let began = now();
    scene.control.rapctl(&format!("cluster policy {CLUSTER} --ephemeral-after 5s"))?;
    let node = scene.new_node("m1", "--auto-approve --ephemeral")?;
    wait_until(
        2 * BLIND,
        "the control plane judges absence",
        || Ok((began.elapsed() > BLIND).then_some(())),
    )?;
    node.kill_all(scene.lab)?;
    let started = now();
    scene.wait_forgets(&scene.nodes[0], "m1")?;
    let removed = started.elapsed();
    // Killed, its stream ended at once: the allowance, a quarter of it, and what a loaded machine needs.
    ensure!(removed < Duration::from_secs(20), "removed only after {removed:?} for an allowance of 5 s");
    let value = json!({ "removed_after_ms": removed.as_millis() as u64 });
    Ok(Finding::new(true, value, "gone from its peers after the absence that the cluster's policy allows"))
}

/// A node leaves by itself; nothing of it stays on the host.
pub fn leave(scene: &Scene<'_>) -> Result<Finding> {
    let node = scene.new_node("l1", "--auto-approve")?;
    let started = now();
    node.host().run(&Invocation::typed("rap-node-agent leave")?, CALL)?.success()?;
    let left = started.elapsed();
    scene.wait_forgets(&scene.nodes[0], "l1")?;
    let state = scene.shown("l1")?["identity_status"].clone();
    let membership = node.host().folder("lib").join("agent/default");
    ensure!(!membership.join("identity.json").exists(), "the identity is still on disk");
    let value = json!({ "left_ms": left.as_millis() as u64, "identity_status": state });
    Ok(Finding::new(
        state == "left",
        value,
        "deregistered, peers dropped it, its keys are gone from the host",
    ))
}

/// A control plane judges nobody's absence before three report intervals from its start.
const BLIND: Duration = Duration::from_secs(46);
