//! Break glass, all of it: the control plane is gone, the Product Root signs, nodes obey until the end, and the audit log has it.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::degraded::linked;
use super::scene::Scene;
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Node, SETTLE};
use crate::wait::{now, wait_until};

/// Two nodes past `degraded_until` work again by a grant that the Product Root signed offline, until it ends.
pub fn root_signed(scene: &Scene<'_>) -> Result<Finding> {
    let control = &scene.control;
    control.rapctl(&format!(
        "cluster create {GLASS} --ipv4-pool 100.99.0.0/16 --refresh-every 1s --fresh-for 4s --degraded-for 4s"
    ))?;
    let nodes: Vec<Node> = ["g1", "g2"]
        .iter()
        .map(|name| {
            let node = Node::configure_strict(scene.lab, name)?;
            node.join(&control.create_token(GLASS, "--auto-approve")?)?;
            node.run()?;
            Ok(node)
        })
        .collect::<Result<_>>()?;
    let [one, two] = nodes.as_slice() else { anyhow::bail!("two nodes") };
    linked(one, two, true)?;
    one.wait_answer(two)?;
    // While it runs, the control plane signs with the cluster's key, which nobody else has.
    control.rapctl(&format!(
        "break-glass issue --cluster {GLASS} --reason maintenance --extend 20s --ttl 20s --out issued.grant"
    ))?;
    control.kill_with_postgres(scene.lab)?;
    let found = without_control(scene, one, two);
    control.restart(scene.lab)?;
    control.wait_answering()?;
    let mut value = found?;
    for node in &nodes {
        node.wait_healthy()?;
    }
    for node in &scene.nodes {
        node.wait_healthy()?;
    }
    let uses = wait_until(SETTLE, "every use is told", || {
        let uses = control.ask(&format!("break-glass uses --cluster {GLASS}"))?["uses"].clone();
        Ok(uses.as_array().filter(|uses| uses.len() >= 4).cloned())
    })?;
    let logged = control.ask(&format!("audit list --cluster {GLASS} --action break_glass.use"))?;
    let logged = logged["entries"].as_array().map_or(0, Vec::len);
    let signers: Vec<&Value> = uses.iter().map(|each| &each["signer"]).collect();
    value["uses"] = json!(uses.len());
    value["audit_entries"] = json!(logged);
    value["signers"] = json!(signers);
    Ok(Finding::new(
        uses.len() == 4 && logged == 4,
        value,
        "both grants held where they were applied, ended by themselves, and each node's use is in the audit log once",
    ))
}

fn without_control(scene: &Scene<'_>, one: &Node, two: &Node) -> Result<Value> {
    let state = |node: &Node, wanted: &'static str| {
        node.wait_status(&format!("is {wanted}"), SETTLE, move |_, status| {
            status["freshness"]["state"] == wanted
        })
    };
    let (_, shown) = one.status()?;
    let id = |field: &str| shown[field].as_str().map(str::to_owned).with_context(|| field.to_owned());
    let (installation, cluster) = (id("installation")?, id("cluster")?);
    // The cluster's own word, fetched while there was time.
    for node in [one, two] {
        apply(scene, node, "issued.grant")?;
    }
    state(one, "expired")?;
    linked(one, two, false)?;
    let sign = |name: &str, extend: &str| {
        scene.control.rapctl(&format!(
            "break-glass sign --key-file product-root.key --installation {installation} --cluster {cluster} \
             --reason drill --extend {extend} --ttl {extend} --out {name}"
        ))
    };
    let started = now();
    sign("root.grant", "25s")?;
    for node in [one, two] {
        apply(scene, node, "root.grant")?;
    }
    linked(one, two, true)?;
    one.wait_answer(two)?;
    let back = started.elapsed();
    let again = apply(scene, one, "root.grant").err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(again.contains("break_glass.replayed"), "applied twice: {again}");
    // Kept over a restart of the agent.
    one.agent(scene.lab)?.restart()?;
    let (status, _) = state(one, "degraded")?;
    let active = status["break_glass"].as_array().context("grants")?;
    ensure!(active.iter().any(|grant| grant["state"] == "active"), "forgotten: {active:?}");
    state(one, "expired")?;
    linked(one, two, false)?;
    let ended = started.elapsed();
    Ok(json!({ "back_ms": back.as_millis() as u64, "ended_ms": ended.as_millis() as u64 }))
}

/// Carries the grant to the node's host and applies it there.
fn apply(scene: &Scene<'_>, node: &Node, grant: &str) -> Result<()> {
    let from = scene.control.host().folder("home").join(grant);
    fs::copy(&from, node.host().folder("home").join(grant)).with_context(|| from.display().to_string())?;
    let call = Invocation::typed(&format!("rap-node-agent break-glass apply {grant}"))?;
    node.host().run(&call, CALL)?.success().map(drop)
}

const GLASS: &str = "glass";
