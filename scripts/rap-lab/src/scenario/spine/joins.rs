//! Enrollment: a request that waits for an operator, one that the token approves, and many hosts that race for one use.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::CLUSTER;
use crate::check::Finding;
use crate::command::{Answer, Invocation};
use crate::fabric::{CALL, Control, Node, Pace, SETTLE};
use crate::folder::write_secret;
use crate::host::Host;
use crate::lab::Lab;
use crate::wait::{now, wait_until};

/// A node joins with a token that leaves the decision to an operator.
pub fn pending_approve(lab: &Lab, control: &Control, nodes: &mut Vec<Node>) -> Result<Finding> {
    let token = control.create_token(CLUSTER, "")?;
    let node = Node::configure(lab, "n1")?;
    let approved = std::thread::scope(|scope| {
        let join = scope.spawn(|| node.join(&token));
        let request = wait_until(SETTLE, "the request waits for approval", || {
            ensure!(!join.is_finished(), "the join ended before it was approved");
            let pending = control.ask(&format!("node list --pending --cluster {CLUSTER}"))?;
            Ok(pending["pending"].as_array().and_then(|pending| pending.first().cloned()))
        })?;
        ensure!(names(control)?.is_empty(), "a request that waits is a node already");
        let id = request["request_id"].as_str().context("request id")?;
        ensure!(request["name"] == node.name(), "asked for another name: {request}");
        let started = now();
        control.rapctl(&format!("node approve {id} --cluster {CLUSTER}"))?;
        join.join().map_err(|_| anyhow::anyhow!("panic while joining"))??;
        Ok(started.elapsed())
    })?;
    ensure!(names(control)? == [node.name()], "the approved node is not the only one");
    node.run()?;
    let (status, _) = node.wait_healthy()?;
    nodes.push(node);
    let value = json!({
        "approve_to_joined_ms": millis(approved), "snapshot_version": status["active"]["sequence"],
    });
    Ok(Finding::new(true, value, "waited for an operator, was approved, verified its snapshot"))
}

/// A node joins with a token that approves.
pub fn auto(lab: &Lab, control: &Control, nodes: &mut Vec<Node>) -> Result<Finding> {
    let token = control.create_token(CLUSTER, "--auto-approve")?;
    let node = Node::configure(lab, "n2")?;
    let started = now();
    node.join(&token)?;
    let joined = started.elapsed();
    node.run()?;
    node.wait_status("has a verified snapshot", SETTLE, |_, status| status["active"].is_object())?;
    let verified = started.elapsed();
    node.wait_healthy()?;
    nodes.push(node);
    let [first, second] = nodes.as_slice() else { bail!("the first node did not join") };
    let (there, back) = (second.wait_answer(first)?, first.wait_answer(second)?);
    let value = json!({
        "joined_ms": millis(joined), "verified_ms": millis(verified), "overlay_ms": millis(there.max(back)),
    });
    Ok(Finding::new(true, value, "joined without an operator and was answered over the overlay"))
}

/// Hosts race for a token that admits one.
pub fn one_use_race(lab: &Lab, control: &Control) -> Result<Finding> {
    control.create_cluster(RACE, Pace::default())?;
    let token = control.create_token(RACE, "--auto-approve --uses 1")?;
    // Several hosts, so that the limit on strangers from one address is not what stops them.
    let hosts: Vec<Host> =
        (1..=RACE_HOSTS).map(|number| lab.host(&format!("r{number}"))).collect::<Result<_>>()?;
    for host in &hosts {
        write_secret(&host.folder("home").join("race.token"), &token)?;
    }
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let joins: Vec<_> = hosts
            .iter()
            .flat_map(|host| (1..=RACERS_PER_HOST).map(move |number| (host, number)))
            .map(|(host, number)| scope.spawn(move || host.run(&racer(host, number), 2 * CALL)))
            .collect();
        joins
            .into_iter()
            .map(|join| join.join().map_err(|_| anyhow::anyhow!("panic"))?)
            .collect::<Result<_>>()
    })?;
    let admitted = answers.iter().filter(|answer| answer.code == Some(0)).count();
    let refused = answers.iter().filter(|answer| answer.stderr.contains("token.exhausted")).count();
    let nodes = control.ask(&format!("node list --cluster {RACE}"))?;
    let nodes = nodes["nodes"].as_array().map_or(0, Vec::len);
    let tokens = control.ask(&format!("token list --cluster {RACE}"))?;
    let uses = tokens["tokens"][0]["uses"].clone();
    let value = json!({
        "racers": answers.len(), "admitted": admitted, "refused": refused, "nodes": nodes, "uses": uses,
    });
    let ok = admitted == 1 && refused == answers.len() - 1 && nodes == 1 && uses == 1;
    let other =
        answers.iter().find(|answer| answer.code != Some(0) && !answer.stderr.contains("token.exhausted"));
    let note = match other {
        Some(answer) => format!("one ended with {:?}: {}", answer.code, answer.stderr.trim()),
        None => "one was admitted, every other was told token.exhausted".to_owned(),
    };
    Ok(Finding::new(ok, value, note))
}

fn racer(host: &Host, number: usize) -> Invocation {
    let name = format!("{}-{number}", host.name());
    let home = host.folder("home").join(&name);
    Invocation::new("rap-node-agent")
        .arguments(["join", "--token-file", "race.token", "--dev", "--name", &name])
        .arguments(["--data-dir".to_owned(), home.join("state").display().to_string()])
        .arguments(["--socket".to_owned(), home.join("agent.sock").display().to_string()])
}

fn names(control: &Control) -> Result<Vec<Value>> {
    let nodes = control.ask(&format!("node list --cluster {CLUSTER}"))?;
    let nodes = nodes["nodes"].as_array().context("nodes")?;
    Ok(nodes.iter().map(|node| node["name"].clone()).collect())
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const RACE: &str = "race";
const RACE_HOSTS: usize = 4;
const RACERS_PER_HOST: usize = 5;
