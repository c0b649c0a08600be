//! What a start finds in the directory of a membership: another node's certificate, lost floors, a clock that went back.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::scene::{CLUSTER, Scene, extra, leave, membership};
use super::shown::{half, shown};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::SETTLE;
use crate::folder::write_secret;

/// The certificate of another node in the directory of one: it is not used, and a new one is asked for.
pub fn foreign_leaf(scene: &Scene<'_>) -> Result<Finding> {
    let [one, two] = &scene.nodes;
    let agent = one.agent(scene.lab)?;
    agent.stop()?;
    for name in ["certificate.json", "certificate.json.twin"] {
        fs::copy(membership(two).join(name), membership(one).join(name))?;
    }
    agent.restart()?;
    let (status, _) = one.wait_healthy()?;
    one.wait_answer(two)?;
    let effect = half(
        warned(&status, "state.foreign"),
        json!({ "warnings": status["warnings"], "certificate": status["certificate"] }),
    );
    // The own certificate, put there in the same way, is used.
    agent.stop()?;
    agent.restart()?;
    let (status, _) = one.wait_healthy()?;
    let own = !warned(&status, "state.foreign");
    let control = half(own, json!({ "own_certificate_is_used": own }));
    Ok(shown(
        effect,
        control,
        "another node's certificate was moved aside and a new one issued; the own one is used",
    ))
}

/// Both copies of the floors are gone: the membership stops by name, and `join --rejoin` goes on with the same key.
pub fn floors_missing(scene: &Scene<'_>) -> Result<Finding> {
    let node = extra(scene, "lost", &[])?;
    let id = node.status()?.1["node_id"].clone();
    let agent = node.agent(scene.lab)?;
    // One copy is enough.
    agent.stop()?;
    fs::remove_file(membership(&node).join("floors.json"))?;
    agent.restart()?;
    node.wait_healthy()?;
    let control = half(true, json!({ "healthy_with_one_copy": true }));
    agent.stop()?;
    for name in ["floors.json", "floors.json.twin"] {
        fs::remove_file(membership(&node).join(name))?;
    }
    agent.restart()?;
    let (status, _) = node.wait_status("is stopped", SETTLE, |_, status| status["state"] == "stopped")?;
    let stopped = status["degraded_reasons"] == json!(["state.missing"]);
    let named = status["text"].as_str().is_some_and(|text| text.contains("floors.json"));
    scene.control.rapctl(&format!("node revoke lost --cluster {CLUSTER} --evict --yes --reason drill"))?;
    let token = scene.control.create_token(CLUSTER, "--auto-approve")?;
    write_secret(&node.host().folder("home").join("again.token"), &token)?;
    let rejoins = Invocation::typed("rap-node-agent join --rejoin --token-file again.token")?;
    let back = std::thread::scope(|scope| {
        let rejoin = scope.spawn(|| node.host().run(&rejoins, SETTLE)?.success());
        let request = crate::wait::wait_until(SETTLE, "the request waits for an operator", || {
            anyhow::ensure!(!rejoin.is_finished(), "the join ended before it was approved");
            let pending = scene.control.ask(&format!("node list --pending --cluster {CLUSTER}"))?;
            Ok(pending["pending"].as_array().and_then(|pending| pending.first().cloned()))
        })?;
        let request = request["request_id"].as_str().context("request id")?;
        scene.control.rapctl(&format!("node approve {request} --cluster {CLUSTER} --keep-id"))?;
        rejoin.join().map_err(|_| anyhow::anyhow!("panic while joining"))?
    });
    back?;
    let (status, _) = node.wait_healthy()?;
    let same = status["node_id"] == id && id.is_string();
    let effect =
        half(stopped && named && same, json!({ "stopped": stopped, "named": named, "same_node": same }));
    leave(scene, &node, "lost")?;
    Ok(shown(effect, control, "lost floors stop the membership by name; a return goes on as the same node"))
}

/// The wall clock of a host is a year back at a start: what was stale stays stale, and it is said.
pub fn clock_back(scene: &Scene<'_>) -> Result<Finding> {
    let file = scene.lab.folder().path().join("clock-back");
    let set = |seconds: i64| fs::write(&file, format!("{}\n", seconds * 1000));
    set(0)?;
    let variables = [(rap_runtime::clock::WALL_OFFSET_FILE, file.display().to_string())];
    let node = extra(scene, "late", &variables)?;
    let agent = node.agent(scene.lab)?;
    // Out of reach of its control plane, so that nothing newer arrives.
    scene.lab.cut("late", None)?;
    let stale = |_, status: &Value| status["freshness"]["state"] == "degraded";
    node.wait_status("is stale", SETTLE, stale)?;
    let state = |status: &Value| status["freshness"]["state"].clone();
    let restarted = |seconds: i64| -> Result<Value> {
        agent.stop()?;
        set(seconds)?;
        agent.restart()?;
        Ok(node.wait_status("is up", SETTLE, |_, status| status["freshness"]["state"].is_string())?.0)
    };
    let back = restarted(-365 * 86_400)?;
    let effect = half(
        state(&back) == "degraded" && warned(&back, "clock.regressed"),
        json!({ "freshness": back["freshness"]["state"], "warnings": back["warnings"] }),
    );
    // What the start before left makes the difference.
    agent.stop()?;
    for name in ["time.json", "time.json.twin"] {
        fs::remove_file(membership(&node).join(name))?;
    }
    agent.restart()?;
    let (forgotten, _) =
        node.wait_status("is up", SETTLE, |_, status| status["freshness"]["state"].is_string())?;
    let control = half(state(&forgotten) == "fresh", json!({ "without_the_stored_time": state(&forgotten) }));
    set(0)?;
    scene.lab.heal("late", None)?;
    node.wait_healthy()?;
    leave(scene, &node, "late")?;
    Ok(shown(
        effect,
        control,
        "a clock a year back makes nothing fresh again and is the warning clock.regressed",
    ))
}

pub fn warned(status: &Value, reason: &str) -> bool {
    status["warnings"].as_array().is_some_and(|all| all.iter().any(|warning| warning["reason"] == reason))
}
