//! What happens when a part dies: the agent, the data plane, PostgreSQL, or everything but the nodes' own disks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::CLUSTER;
use super::joins::millis;
use crate::check::Finding;
use crate::fabric::{CALL, Control, Health, Node, SETTLE};
use crate::lab::Lab;
use crate::wait::{now, wait_until};

/// The agent dies and comes back; packets do not notice. The other node sends them, because without a TUN device it is an agent that
/// asks for pings.
pub fn agent_restart(lab: &Lab, one: &Node, other: &Node) -> Result<Finding> {
    let dataplane = one.dataplane(lab)?;
    let watch = other.watch(lab, one)?;
    let agent = one.agent(lab)?;
    agent.kill()?;
    watch.wait_answers(20)?;
    agent.restart()?;
    let (status, healthy) = one.wait_healthy()?;
    watch.wait_answers(20)?;
    let pings = watch.end()?;
    let adopted = status["dataplane"]["adopted"] == true && one.dataplane(lab)? == dataplane;
    let value = json!({
        "pings": pings.sent, "lost": pings.lost(), "same_dataplane": adopted,
        "agent_healthy_ms": millis(healthy),
    });
    let note = "the agent was killed; its data plane went on and was adopted";
    Ok(Finding::new(adopted && pings.lost() == 0, value, note))
}

/// The data plane dies; the agent starts another and traffic flows again.
pub fn dataplane_restart(lab: &Lab, one: &Node, other: &Node) -> Result<Finding> {
    let first = one.dataplane(lab)?;
    first.signal(Signal::KILL);
    ensure!(first.wait_end(CALL), "the data plane outlives SIGKILL");
    let started = now();
    let (_, there) = (one.wait_answer(other)?, started.elapsed());
    let (_, back) = (other.wait_answer(one)?, started.elapsed());
    one.wait_healthy()?;
    let another = one.dataplane(lab)? != first;
    let value = json!({ "overlay_ms": millis(there), "overlay_back_ms": millis(back) });
    Ok(Finding::new(another, value, "the data plane was killed; another one carries traffic both ways"))
}

/// PostgreSQL dies under load; nothing that was acknowledged is lost and the control plane recovers by itself.
pub fn postgres_kill(lab: &Lab, control: &Control, one: &Node, other: &Node) -> Result<Finding> {
    let before = control.part(lab)?.process()?;
    let watch = one.watch(lab, other)?;
    let (load, done) = (Mutex::new(Load::default()), AtomicBool::new(false));
    let recovered = std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| write_until(&done, control, &load));
        }
        let recovered = kill_under_load(lab, control, &load);
        done.store(true, Ordering::SeqCst);
        recovered
    })?;
    let pings = watch.end()?;
    one.wait_healthy()?;
    let load = load.into_inner().unwrap_or_else(PoisonError::into_inner);
    let tokens = control.ask(&format!("token list --cluster {CLUSTER}"))?;
    let kept: BTreeSet<String> = tokens["tokens"].as_array().context("tokens")?.iter().map(id_of).collect();
    let lost = load.acknowledged.difference(&kept).count();
    let same = control.part(lab)?.process()? == before;
    let value = json!({
        "recovered_ms": millis(recovered), "acknowledged": load.acknowledged.len(), "refused": load.refused,
        "acknowledged_and_lost": lost, "pings": pings.sent, "pings_lost": pings.lost(),
    });
    let note = "PostgreSQL was killed while tokens were made; the control plane was not restarted";
    Ok(Finding::new(lost == 0 && same && pings.lost() == 0, value, note))
}

/// What writers were told.
#[derive(Debug, Default)]
struct Load {
    acknowledged: BTreeSet<String>,
    refused: usize,
}

fn write_until(done: &AtomicBool, control: &Control, load: &Mutex<Load>) {
    while !done.load(Ordering::SeqCst) {
        let token = control.ask(&format!("token create --cluster {CLUSTER} --ttl 1h"));
        let mut load = load.lock().unwrap_or_else(PoisonError::into_inner);
        match token {
            Ok(token) => drop(load.acknowledged.insert(id_of(&token))),
            Err(_) => load.refused += 1,
        }
    }
}

/// Kills PostgreSQL between acknowledged writes and returns how long it took until a write was acknowledged again.
fn kill_under_load(lab: &Lab, control: &Control, load: &Mutex<Load>) -> Result<Duration> {
    let acknowledged = || load.lock().unwrap_or_else(PoisonError::into_inner).acknowledged.len();
    wait_until(SETTLE, "writes before the kill", || Ok((acknowledged() >= WRITES).then_some(())))?;
    let postgres = control.postgres(lab)?;
    postgres.signal(Signal::KILL);
    ensure!(postgres.wait_end(CALL), "PostgreSQL outlives SIGKILL");
    let started = now();
    wait_until(SETTLE, "another PostgreSQL", || Ok((control.postgres(lab)? != postgres).then_some(())))?;
    let old = acknowledged();
    wait_until(SETTLE, "a write after the kill", || Ok((acknowledged() > old + WRITERS).then_some(())))?;
    let recovered = started.elapsed();
    wait_until(SETTLE, "writes after the kill", || Ok((acknowledged() >= old + WRITES).then_some(())))?;
    Ok(recovered)
}

fn id_of(token: &Value) -> String {
    token["token_id"].as_str().unwrap_or_default().to_owned()
}

/// Both nodes lose power while the control plane is gone; they come back from their own disks.
pub fn cold_boot_offline(lab: &Lab, control: &Control, one: &Node, other: &Node) -> Result<Finding> {
    control.kill_with_postgres(lab)?;
    for node in [one, other] {
        node.kill_all(lab)?;
    }
    let started = now();
    for node in [one, other] {
        node.agent(lab)?.restart()?;
    }
    one.wait_answer(other)?;
    let overlay = started.elapsed();
    other.wait_answer(one)?;
    let (_, status) = one.status()?;
    let alone = status["control"]["connected"] == false && status["active"].is_object();
    let (stale, degraded) = one.wait_status("says that it is degraded", SETTLE, |health, status| {
        health == Health::Degraded && status["freshness"]["state"] == "degraded"
    })?;
    one.wait_answer(other)?;
    control.restart(lab)?;
    control.wait_answering()?;
    let (_, healthy) = one.wait_healthy()?;
    other.wait_healthy()?;
    let value = json!({
        "overlay_ms": millis(overlay), "degraded_after_ms": millis(degraded), "healthy_again_ms": millis(healthy),
        "snapshot_version": stale["active"]["sequence"],
    });
    Ok(Finding::new(
        alone,
        value,
        "traffic from the stored snapshot, `degraded` said so, healthy when the control plane was back",
    ))
}

const WRITERS: usize = 2;
/// Acknowledged writes before, and again after the kill.
const WRITES: usize = 10;
