//! Nodes that were thrown out and come back with the key that they had.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::scene::{CLUSTER, Scene};
use crate::check::Finding;
use crate::command::{Answer, Invocation};
use crate::fabric::{CALL, Node, SETTLE};
use crate::folder::write_secret;
use crate::wait::{now, wait_until};

/// An evicted node comes back with a new token and keeps id and addresses; a banned one does not.
pub fn reenrollment(scene: &Scene<'_>) -> Result<Finding> {
    let one = scene.nodes.first().context("no node")?;
    let node = scene.new_node("r1", "--auto-approve")?;
    one.wait_answer(&node)?;
    let before = scene.shown("r1")?;
    scene.control.rapctl(&format!("node revoke r1 --cluster {CLUSTER} --evict --yes --reason drill"))?;
    scene.wait_forgets(one, "r1")?;
    node.wait_status("says why", SETTLE, |_, status| status.to_string().contains("node.revoked"))?;
    let started = now();
    let approved = std::thread::scope(|scope| {
        let rejoin = scope.spawn(|| rejoins(scene, &node)?.success());
        let request =
            wait_until(SETTLE, "the request waits for an operator, whatever the token says", || {
                ensure!(!rejoin.is_finished(), "the join ended before it was approved");
                let pending = scene.control.ask(&format!("node list --pending --cluster {CLUSTER}"))?;
                Ok(pending["pending"].as_array().and_then(|pending| pending.first().cloned()))
            })?;
        let id = request["request_id"].as_str().context("request id")?;
        scene.control.rapctl(&format!("node approve {id} --cluster {CLUSTER} --keep-id"))?;
        rejoin.join().map_err(|_| anyhow::anyhow!("panic while joining"))?
    })?;
    node.wait_healthy()?;
    one.wait_answer(&node)?;
    let back = started.elapsed();
    let after = scene.shown("r1")?;
    let same = ["node_id", "node_fingerprint", "overlay_ipv4", "overlay_ipv6"]
        .iter()
        .all(|field| before[field] == after[field] && before[field].is_string());
    scene.control.rapctl(&format!("node revoke r1 --cluster {CLUSTER} --ban --yes --reason drill"))?;
    scene.wait_forgets(one, "r1")?;
    node.wait_status("says why", SETTLE, |_, status| status.to_string().contains("node.revoked"))?;
    let banned = rejoins(scene, &node)?;
    let refused = banned.code != Some(0) && banned.stderr.contains("node.revoked");
    let value = json!({
        "same_id_key_and_addresses": same, "back_ms": back.as_millis() as u64,
        "key_generation": after["key_generation"], "banned_exit": banned.code,
        "said": approved.stdout.trim(),
    });
    Ok(Finding::new(
        same && refused,
        value,
        "evicted, it came back as the same node with a new token; banned, it was refused with node.revoked",
    ))
}

fn rejoins(scene: &Scene<'_>, node: &Node) -> Result<Answer> {
    let token = scene.control.create_token(CLUSTER, "--auto-approve")?;
    write_secret(&node.host().folder("home").join("again.token"), &token)?;
    node.host().run(&Invocation::typed("rap-node-agent join --rejoin --token-file again.token")?, CALL)
}
