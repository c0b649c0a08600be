//! One host in two clusters: each membership works, neither harms the other, and pools that overlap are refused.

use anyhow::{Result, ensure};
use serde_json::json;

use super::scene::{CLUSTER, Scene};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Node, Pace, SETTLE};
use crate::folder::write_secret;

/// The first node joins a second cluster with another pool; both carry traffic.
pub fn two_clusters(scene: &Scene<'_>) -> Result<Finding> {
    let (one, two) = scene.pair()?;
    let pace = Pace::default();
    scene.control.rapctl(&format!(
        "cluster create {OTHER} --ipv4-pool 100.97.0.0/16 --refresh-every {}ms --fresh-for {}ms",
        pace.refresh_every.as_millis(),
        pace.fresh_for.as_millis()
    ))?;
    let far = Node::configure_strict(scene.lab, "o1")?;
    far.join(&scene.control.create_token(OTHER, "--auto-approve")?)?;
    far.run()?;
    far.wait_healthy()?;
    let watch = one.watch(scene.lab, two)?;
    joins_as(scene, one, OTHER)?.success()?;
    let listed = one.host().typed("rap-node-agent memberships --json", CALL)?.json()?;
    let (answered, took) = {
        let started = crate::wait::now();
        let line = format!("rap-node-agent --membership {OTHER} ping o1 --count 5 --interval 50 --json");
        let answered = crate::wait::wait_until(SETTLE, "the other cluster's node answers", || {
            let answer = one.host().run(&Invocation::typed(&line)?, CALL)?.json()?;
            let samples = answer["overlay"]["samples"].as_array().cloned().unwrap_or_default();
            let answered = samples.iter().filter(|sample| sample["rtt_ms"].is_number()).count();
            Ok((answered == 5).then_some(answered))
        })?;
        (answered, started.elapsed())
    };
    watch.wait_answers(10)?;
    let pings = watch.end()?;
    let count = listed["memberships"].as_array().map_or(0, Vec::len);
    let value = json!({
        "memberships": count, "answered": answered, "first_answer_ms": took.as_millis() as u64,
        "first_cluster_pings": pings.sent, "first_cluster_lost": pings.lost(),
    });
    Ok(Finding::new(
        count == 2 && pings.lost() == 0,
        value,
        "both clusters carry traffic; the first lost nothing",
    ))
}

/// A cluster with the first one's pool is refused on that host, and nothing of it stays.
pub fn overlap(scene: &Scene<'_>) -> Result<Finding> {
    let (one, two) = scene.pair()?;
    scene.control.create_cluster(SAME, Pace::default())?;
    let refused = joins_as(scene, one, SAME)?;
    let said = refused.stderr.contains("overlay.overlap");
    ensure!(refused.code != Some(0), "the join was accepted");
    one.wait_healthy()?;
    one.wait_answer(two)?;
    let value = json!({ "exit": refused.code, "said": refused.stderr.trim() });
    Ok(Finding::new(said, value, format!("{CLUSTER} goes on; {SAME} with the same pool is refused")))
}

fn joins_as(scene: &Scene<'_>, node: &Node, cluster: &str) -> Result<crate::command::Answer> {
    let token = scene.control.create_token(cluster, "--auto-approve")?;
    write_secret(&node.host().folder("home").join("other.token"), &token)?;
    let line = format!("rap-node-agent --membership {cluster} join --token-file other.token");
    node.host().run(&Invocation::typed(&line)?, CALL)
}

const OTHER: &str = "branch";
const SAME: &str = "twin";
