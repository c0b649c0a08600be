//! Days that pass: the wall clocks of control plane and nodes are moved by the test hook of debug builds.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::scene::Scene;
use crate::check::Finding;
use crate::lab::Lab;
use crate::wait::now;

/// The offset that every program of the lab adds to the wall clock.
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Starts without offset.
    pub fn prepare(lab: &Lab) -> Result<Self> {
        let file = lab.folder().path().join("wall-offset");
        fs::write(&file, "0\n").with_context(|| file.display().to_string())?;
        Ok(Self { file })
    }

    /// What a program needs in its environment.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![(rap_runtime::clock::WALL_OFFSET_FILE, self.file.display().to_string())]
    }

    fn pass_days(&self, days: i64) -> Result<()> {
        fs::write(&self.file, format!("{}\n", days * 86_400_000))
            .with_context(|| self.file.display().to_string())
    }
}

/// A node is off for two days: its leaf and its snapshot are long past when it returns.
pub fn two_days_off(scene: &Scene<'_>, clock: &Clock) -> Result<Finding> {
    let (one, two) = scene.pair()?;
    let (_, before) = two.status()?;
    two.kill_all(scene.lab)?;
    scene.control.kill_with_postgres(scene.lab)?;
    clock.pass_days(2)?;
    scene.control.restart(scene.lab)?;
    one.wait_healthy().context("the node that was not off")?;
    let started = now();
    two.agent(scene.lab)?.restart()?;
    let (status, _) = two.wait_healthy()?;
    let healthy = started.elapsed();
    one.wait_answer(two)?;
    let renewed = status["certificate"] != before["certificate"] && status["certificate"].is_object();
    let value = json!({ "healthy_ms": healthy.as_millis() as u64, "certificate": status["certificate"], "renewed": renewed });
    Ok(Finding::new(
        renewed,
        value,
        "renewed by its identity key with an expired leaf, fetched the newest snapshot, was heard again",
    ))
}
