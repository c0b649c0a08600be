//! What the node and the control plane say of a path: the same relay as the one in use, and another one if that were down.

use std::cell::RefCell;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::scene::{CLUSTER, Scene};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::CALL;
use crate::wait::wait_until;

/// `paths`, `path explain` at the node and through the control plane; a question changes nothing.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let [a, b] = &scene.sites;
    a.wait_answer(b)?;
    let own = |words: &str| -> Result<Value> {
        let call = Invocation::typed(&format!("rap-node-agent --membership default {words} --json"))?;
        a.host().run(&call, CALL)?.success()?.json()
    };
    let last = RefCell::new(Value::Null);
    // Only traffic takes a new plan, and the data plane tells the agent which way it took.
    let planned = wait_until(PLANNED, "the relay in use is the planned one", || {
        a.ping(b, 1)?;
        let paths = own("paths")?;
        let listed = paths["paths"].as_array().into_iter().flatten();
        let path = listed.into_iter().find(|path| path["name"] == b.name()).cloned();
        let path = path.with_context(|| format!("no path to {} in {paths}", b.name()))?;
        last.replace(path.clone());
        Ok((names(&path["via"]) == names(&path["primary"])).then_some(path))
    })
    .with_context(|| format!("last path: {}", last.borrow()))?;
    let (relay, other) = scene.relay_in_use()?;
    let (relay, other) = (relay.name(), other.name());
    ensure!(names(&planned["via"]) == [relay] && planned["way"] == "relayed", "{planned}");
    ensure!(names(&planned["backup"]) == [other], "the second path has another relay: {planned}");

    let question = format!("--class input --what-if relay={relay},down");
    let without = own(&format!("path explain {} {question}", b.name()))?;
    let asked = format!("path explain {} {} --cluster {CLUSTER}", a.name(), b.name());
    let [through, through_without] = [asked.clone(), format!("{asked} {question}")].map(|line| {
        // A node answers one question each second.
        wait_until(CALL, "the node may be asked", || match scene.control.ask(&line) {
            Err(refused) if format!("{refused:#}").contains("rate.limited") => Ok(None),
            answer => answer.map(Some),
        })
    });
    let (through, through_without) = (through?, through_without?);
    for (document, class, chosen) in
        [(&without, "input", other), (&through, "vpn", relay), (&through_without, "input", other)]
    {
        ensure!(document["class"] == class && names(&document["primary"]) == [chosen], "{document}");
        let candidates = document["candidates"].as_array().map(Vec::as_slice).unwrap_or_default();
        let found = candidates.iter().find(|one| one["standing"] == "chosen").context("none is chosen")?;
        ensure!(names(&found["relays"]) == [chosen] && found["cost_ms"].is_number(), "{document}");
        let looked_at = candidates.iter().filter(|one| names(&one["relays"]).contains(&relay));
        let down = |one: &Value| one["code"] == "path.next_unreachable";
        ensure!(looked_at.clone().count() > 0, "{relay} is not among the candidates: {document}");
        ensure!(looked_at.clone().all(down) == (chosen == other), "what is said of {relay}: {document}");
    }
    ensure!(scene.relay_in_use()?.0.name() == relay, "a question moved the traffic");
    let value = json!({ "primary": relay, "backup": other, "candidates": through["candidates"].as_array().map(Vec::len) });
    Ok(Finding::new(
        true,
        value,
        "the node and the control plane name the relay in use, and the other one if it were down",
    ))
}

fn names(relays: &Value) -> Vec<&str> {
    relays.as_array().into_iter().flatten().filter_map(|relay| relay["name"].as_str()).collect()
}

/// Two reports of the data plane, and some.
const PLANNED: std::time::Duration = std::time::Duration::from_secs(20);
