//! A control plane is ready as long as it can write, whatever else its database answers.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::json;

use super::database::inside;
use super::scene::Scene;
use super::shown::{Half, half, shown};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Intruder, SETTLE};
use crate::wait::{now, wait_until};

/// The database server becomes read-only, first for one heartbeat and then for good.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    inside(scene, |intruder| {
        let control = one_heartbeat(scene, intruder)?;
        let effect = read_only(scene)?;
        scene.control.wait_answering()?;
        for node in &scene.nodes {
            node.wait_healthy()?;
        }
        let note = "not ready once nothing can be written though reads work, and no node is sent away; ready after one failed heartbeat";
        Ok(shown(effect, control, note))
    })
}

/// The server takes no writes until one heartbeat is missing, and is ready at every look.
fn one_heartbeat(scene: &Scene<'_>, intruder: &Intruder) -> Result<Half> {
    let newest = || intruder.reads("SELECT max(beat_at) FROM replica_heartbeats");
    let before = newest()?;
    let begins = wait_until(SETTLE, "a heartbeat", || Ok(Some(newest()?).filter(|beat| *beat != before)))?;
    let started = now();
    let (mut looks, mut ready) = (0, 0);
    let mut look = || -> Result<()> {
        looks += 1;
        ready += u64::from(is_ready(scene)?);
        Ok(())
    };
    during_read_only(scene, || {
        wait_until(SETTLE, "one heartbeat failed", || {
            look()?;
            Ok((started.elapsed() >= MISSED).then_some(()))
        })
    })?;
    let missed = newest()? == begins;
    let again = wait_until(SETTLE, "the next heartbeat", || {
        look()?;
        Ok((newest()? != begins).then_some(started.elapsed()))
    })?;
    Ok(half(
        missed && looks > 5 && ready == looks,
        json!({ "missed": missed, "looks": looks, "ready": ready, "next_heartbeat_after_ms": again.as_millis() as u64 }),
    ))
}

fn read_only(scene: &Scene<'_>) -> Result<Half> {
    let started = now();
    let (after, page, metric, status, kept) = during_read_only(scene, || {
        wait_until(SETTLE, "it is not ready", || Ok((!is_ready(scene)?).then_some(())))?;
        let after = started.elapsed();
        let page = scene.control.page("/readyz")?;
        let metric = scene.control.page("/metrics")?.contains("\nrap_control_database_up 0\n");
        let answer = scene.control.host().run(&Invocation::typed("rapctl status")?, CALL)?;
        let status = format!("{}{}", answer.stdout, answer.stderr);
        let mut kept = true;
        for node in &scene.nodes {
            kept &= node.status()?.1["control"]["connected"] == true;
        }
        Ok((after, page, metric, status, kept))
    })?;
    let named = page.trim_end().lines().last().unwrap_or_default().to_owned();
    let said = status.contains("not ready") || status.contains("store.unavailable");
    let again = now();
    wait_until(SETTLE, "it is ready again", || Ok(is_ready(scene)?.then_some(())))?;
    Ok(half(
        after >= EARLIEST && named.contains('.') && metric && said && kept,
        json!({
            "not_ready_after_ms": after.as_millis() as u64, "reason": named, "database_up_is_0": metric,
            "status_says_so": said, "streams_kept": kept, "ready_again_after_ms": again.elapsed().as_millis() as u64,
        }),
    ))
}

fn is_ready(scene: &Scene<'_>) -> Result<bool> {
    Ok(scene.control.page("/readyz")?.starts_with("HTTP/1.1 200"))
}

/// What the server refuses meanwhile are writes of every session, old and new ones.
fn during_read_only<T>(scene: &Scene<'_>, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let file = scene.control.data().join("postgres/postgresql.conf");
    let postgres = scene.control.postgres(scene.lab)?;
    let settings = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let set = |text: &str| -> Result<()> {
        fs::write(&file, text)?;
        postgres.signal(Signal::HUP);
        Ok(())
    };
    set(&format!("{settings}default_transaction_read_only = on\n"))?;
    let outcome = act();
    set(&settings)?;
    outcome
}

/// A heartbeat is committed every 2 s: one is missing then, and not two.
const MISSED: Duration = Duration::from_millis(3_000);
/// Ready for 10 s after the last heartbeat, which may have been 2 s ago.
const EARLIEST: Duration = Duration::from_secs(7);
