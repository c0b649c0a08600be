//! Writers at three replicas are no divergence; a replica that plans from other rows is one.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::json;

use super::dials::PORTS;
use super::replicas::{OWNER, Replicas};
use super::scene::{CLUSTER, Scene, Size};
use super::shown::{Half, half, shown};
use crate::check::Finding;
use crate::fabric::{Intruder, SETTLE};
use crate::wait::{now, wait_until};

/// Each replica has a writer. Then a row is put back as it was, and a replica starts: what it plans is not what was published.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let versions = match scene.size {
        Size::Short => 60,
        Size::Full => 1_000,
    };
    Replicas::during(scene, |replicas, intruder| {
        let effect = written(scene, replicas, versions)?;
        let control = planted(scene, replicas, intruder)?;
        let note = "writers at three replicas raise no alarm; a replica that plans from other rows is found at its start";
        Ok(shown(effect, control, note))
    })
}

fn written(scene: &Scene<'_>, replicas: &Replicas<'_>, versions: u64) -> Result<Half> {
    let (before, started) = (version(scene)?, now());
    let each = versions.div_ceil(PORTS.len() as u64);
    std::thread::scope(|threads| {
        let writers: Vec<_> = (0..PORTS.len())
            .map(|replica| {
                threads.spawn(move || {
                    (0..each).try_for_each(|turn| update(replicas, replica, &format!("w{replica}-{turn}")))
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| anyhow!("panic in a writer"))?)
    })?;
    let (made, took) = (version(scene)? - before, started.elapsed());
    acknowledged(scene)?;
    let alarms = (0..PORTS.len()).map(|replica| divergences(replicas, replica)).sum::<Result<u64>>()?;
    Ok(half(
        made >= versions && alarms == 0,
        json!({ "writers": PORTS.len(), "versions": made, "took_ms": took.as_millis() as u64, "alarms": alarms }),
    ))
}

/// The last replica starts on rows of which one is as it was a version ago; its MAC holds.
fn planted(scene: &Scene<'_>, replicas: &Replicas<'_>, intruder: &Intruder) -> Result<Half> {
    let second = PORTS.len() - 1;
    update(replicas, 0, "before")?;
    let before = row(intruder)?;
    update(replicas, 0, "after")?;
    let after = row(intruder)?;
    acknowledged(scene)?;
    replicas.stop(second)?;
    put(intruder, &before)?;
    // A control plane does not start on a database without row-level security.
    intruder.leave()?;
    let found = (|| {
        replicas.restart(second)?;
        wait_until(SETTLE, "the replica is up", || replicas.page(second, "/healthz").map(Some))?;
        let started = now();
        wait_until(SETTLE, "the second planner is found", || {
            Ok((divergences(replicas, second)? > 0).then_some(()))
        })?;
        Ok::<_, anyhow::Error>(started.elapsed())
    })();
    put(&Intruder::into_database_of(&scene.control)?, &after)?;
    let found = found?;
    wait_until(SETTLE, "no alarm is left", || {
        let status = replicas.typed(second, OWNER, "status -o json")?.success()?.json()?;
        let alarms = status["alarms"].as_array().context("alarms")?;
        Ok((!alarms.iter().any(|alarm| alarm.to_string().contains(DIVERGENCE))).then_some(()))
    })?;
    Ok(half(found <= WITHIN, json!({ "found_after_ms": found.as_millis() as u64 })))
}

/// What of the row of a node an update changes: region, version and MAC.
fn row(intruder: &Intruder) -> Result<[String; 3]> {
    let row =
        intruder.reads("SELECT region, row_version, encode(row_mac, 'hex') FROM nodes WHERE name = 'n2'")?;
    let columns: Vec<String> = row.split('|').map(str::to_owned).collect();
    columns.try_into().map_err(|columns| anyhow!("the row of n2: {columns:?}"))
}

fn put(intruder: &Intruder, [region, version, mac]: &[String; 3]) -> Result<()> {
    intruder.does("ALTER TABLE nodes DISABLE TRIGGER USER")?;
    let changed = intruder.changes_one(&format!(
        "UPDATE nodes SET region = '{region}', row_version = {version}, row_mac = decode('{mac}', 'hex') WHERE name = 'n2'"
    ));
    intruder.does("ALTER TABLE nodes ENABLE TRIGGER USER")?;
    changed
}

fn update(replicas: &Replicas<'_>, replica: usize, region: &str) -> Result<()> {
    let words = format!("node update n2 --cluster {CLUSTER} --region {region}");
    replicas.typed(replica, OWNER, &words)?.success().map(drop)
}

fn divergences(replicas: &Replicas<'_>, replica: usize) -> Result<u64> {
    let line = format!("rap_control_alarms_total{{reason=\"{DIVERGENCE}\"}}");
    let text = replicas.page(replica, "/metrics")?;
    let value = text.lines().find_map(|found| found.strip_prefix(&line));
    Ok(value.and_then(|value| value.trim().parse().ok()).unwrap_or(0))
}

fn version(scene: &Scene<'_>) -> Result<u64> {
    scene.control.ask(&format!("cluster show {CLUSTER}"))?["version"].as_u64().context("version")
}

/// Waits until both nodes have the newest version.
fn acknowledged(scene: &Scene<'_>) -> Result<()> {
    let version = version(scene)?;
    for name in ["n1", "n2"] {
        wait_until(SETTLE, &format!("{name} acknowledged version {version}"), || {
            let node = scene.control.ask(&format!("node show {name} --cluster {CLUSTER}"))?;
            Ok((node["acked_version"].as_u64() >= Some(version)).then_some(()))
        })?;
    }
    Ok(())
}

const DIVERGENCE: &str = "planner.divergence";
const WITHIN: Duration = Duration::from_secs(5);
