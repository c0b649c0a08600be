//! What was signed before, removed or put back by somebody who owns the database.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::scene::{CLUSTER, Scene};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, SETTLE};

/// The newest heads are deleted: nodes do not go back, and the next version is above what they have.
pub fn deleted_heads(scene: &Scene<'_>) -> Result<Finding> {
    let version = scene.version()?;
    scene.intruder.does(&format!(
        "DELETE FROM cluster_heads USING clusters WHERE clusters.name = '{CLUSTER}'
           AND cluster_heads.cluster_id = clusters.cluster_id AND cluster_heads.version >= {version} - 1"
    ))?;
    scene.publishes()?;
    for node in &scene.nodes {
        node.wait_healthy()?;
    }
    let after = scene.version()?;
    Ok(Finding::new(
        after > version,
        json!({ "before": version, "after": after }),
        "nodes never went below what they had",
    ))
}

/// An entry of the audit log is rewritten.
pub fn edited_audit(scene: &Scene<'_>) -> Result<Finding> {
    scene.control.rapctl("audit verify")?;
    let actor = scene.intruder.reads("SELECT actor FROM audit_log WHERE sequence = 1")?;
    let set = |actor: &str| format!("UPDATE audit_log SET actor = '{actor}' WHERE sequence = 1");
    let rewrite = |actor: &str| {
        scene.intruder.does(&format!(
            "ALTER TABLE audit_log DISABLE TRIGGER USER; {}; ALTER TABLE audit_log ENABLE TRIGGER USER",
            set(actor)
        ))
    };
    rewrite("nobody")?;
    let answer = scene.control.host().run(&Invocation::typed("rapctl audit verify -o json")?, CALL)?;
    rewrite(&actor)?;
    scene.control.rapctl("audit verify")?;
    let said = format!("{}{}", answer.stdout, answer.stderr);
    let ok = answer.code == Some(7) || said.contains("audit.");
    ensure!(answer.code != Some(0), "a rewritten entry was not found");
    Ok(Finding::new(
        ok,
        json!({ "exit": answer.code, "said": said.trim() }),
        "the rewritten entry does not fit the signed tree",
    ))
}

/// Yesterday's disk of PostgreSQL, whole and authentic, replaces today's.
pub fn old_database(scene: &Scene<'_>) -> Result<Finding> {
    let (today, yesterday) = (scene.control.data().join("postgres"), scene.control.data().join("yesterday"));
    scene.control.kill_with_postgres(scene.lab)?;
    copy(&today, &yesterday)?;
    scene.control.restart(scene.lab)?;
    scene.control.wait_answering()?;
    scene.publishes()?;
    scene.publishes()?;
    let (known, before) = (position(scene)?, scene.control.alarms("snapshot.rollback")?);
    scene.control.kill_with_postgres(scene.lab)?;
    std::fs::remove_dir_all(&today)?;
    std::fs::rename(&yesterday, &today)?;
    scene.control.restart(scene.lab)?;
    scene.control.wait_answering()?;
    let node = &scene.nodes[0];
    let (_, took) = node.wait_status("hears a newer incarnation", SETTLE, |_, status| {
        status["active"]["incarnation"].as_u64() > Some(known.0) && status["control"]["connected"] == true
    })?;
    let now = position(scene)?;
    let value = json!({
        "known_to_nodes": [known.0, known.1], "after": [now.0, now.1], "settled_ms": took.as_millis() as u64,
        "alarms": scene.control.alarms("snapshot.rollback")?.saturating_sub(before),
    });
    Ok(Finding::new(
        now > known,
        value,
        "nodes showed what they have: the older database began a higher incarnation",
    ))
}

fn position(scene: &Scene<'_>) -> Result<(u64, u64)> {
    let (_, status) = scene.nodes[0].status()?;
    let number = |field: &str| status["active"][field].as_u64().context("no active snapshot");
    Ok((number("incarnation")?, number("sequence")?))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(copied.success(), "cp -a {} failed", from.display());
    Ok(())
}
