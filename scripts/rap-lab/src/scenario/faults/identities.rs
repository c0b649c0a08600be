//! One identity in two places, and a state that was put back.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::scene::{CLUSTER, Scene, extra, leave, membership};
use super::shown::{half, shown};
use super::stored_files::warned;
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Node, SETTLE};
use crate::folder::{make_folder, write_secret};
use crate::part::Part;
use crate::wait::{now, wait_until};

/// A copy of a node's disk runs on another host: found at one replica, and with each at another one. Restarts are no copies.
pub fn cloned(scene: &Scene<'_>) -> Result<Finding> {
    let node = extra(scene, NAME, &[])?;
    let before = scene.control.alarms(CLONED)?;
    restarted(scene, &node)?;
    let quiet = scene.control.alarms(CLONED)? == before && doubt(scene)?.is_empty();
    node.agent(scene.lab)?.stop()?;
    let copy = copied(scene, &node)?;
    node.agent(scene.lab)?.restart()?;
    node.wait_healthy()?;
    copy.run()?;
    let here = found(scene, CLONED)?;
    for host in [&node, &copy] {
        host.wait_status("is told", TOLD, |_, status| warned(status, CLONED))?;
    }
    let alarmed = scene.control.alarms(CLONED)? == before + 1;
    let listed = scene.control.ask("status")?.to_string().contains(CLONED);
    accepted(scene, &node, &copy)?;
    let (replica, elsewhere) = (second_replica(scene)?, copy.host());
    let to_replica = [
        "add table ip detour".to_owned(),
        "add chain ip detour out { type nat hook output priority -100 ; }".to_owned(),
        format!(
            "add rule ip detour out ip daddr {} tcp dport 8443 dnat to :9443",
            scene.control.host().address()
        ),
    ];
    for line in to_replica {
        elsewhere.run(&Invocation::new("nft").argument(line), CALL)?.success()?;
    }
    copy.agent(scene.lab)?.restart()?;
    let there = found(scene, CLONED)?;
    accepted(scene, &node, &copy)?;
    replica.stop()?;
    leave(scene, &node, NAME)?;
    let millis = |took: Duration| took.as_millis() as u64;
    Ok(shown(
        half(
            here <= WITHIN && there <= WITHIN && alarmed && listed,
            json!({
                "found_after_ms": millis(here), "at_two_replicas_after_ms": millis(there),
                "one_alarm": alarmed, "in_status": listed,
            }),
        ),
        half(quiet, json!({ "restarts": RESTARTS, "kills": KILLS, "doubted": !quiet })),
        "a copied disk is an alarm, told on both hosts, also with each at another replica; restarts are none",
    ))
}

/// An old copy of a state directory is put back; a lost cache is not the same.
pub fn rolled_back(scene: &Scene<'_>) -> Result<Finding> {
    let node = extra(scene, NAME, &[])?;
    let agent = node.agent(scene.lab)?;
    let (state, kept) = (node.host().folder("lib"), node.host().folder("home").join("kept"));
    let before = scene.control.alarms(ROLLED_BACK)?;
    agent.stop()?;
    copy_folder(&state, &kept)?;
    agent.restart()?;
    node.wait_healthy()?;
    let updated = scene.control.ask(&format!("node update {NAME} --cluster {CLUSTER} --tags moved"))?;
    let version = updated["version"].as_u64().context("the version that the update made")?;
    let acknowledged = || scene.control.ask(&format!("node show {NAME} --cluster {CLUSTER}"));
    wait_until(SETTLE, "the node acknowledged the change", || {
        Ok((acknowledged()?["acked_version"].as_u64() >= Some(version)).then_some(()))
    })?;
    // At once: what was acknowledged counts, written or not.
    agent.stop()?;
    fs::remove_dir_all(membership(&node).join("cache")).context("its cache")?;
    agent.restart()?;
    node.wait_healthy()?;
    let lost_cache = scene.control.alarms(ROLLED_BACK)? - before;
    agent.stop()?;
    fs::remove_dir_all(&state)?;
    copy_folder(&kept, &state)?;
    agent.restart()?;
    let took = found(scene, ROLLED_BACK)?;
    node.wait_status("is told", TOLD, |_, status| warned(status, ROLLED_BACK))?;
    let alarms = scene.control.alarms(ROLLED_BACK)? - before;
    scene.control.rapctl(&format!("node accept {NAME} --cluster {CLUSTER} --yes"))?;
    node.wait_status("is told that it is over", TOLD, |_, status| !warned(status, ROLLED_BACK))?;
    let ended = doubt(scene)?.is_empty();
    node.wait_healthy()?;
    leave(scene, &node, NAME)?;
    Ok(shown(
        half(
            alarms == 1 && ended,
            json!({ "found_after_ms": took.as_millis() as u64, "alarms": alarms, "over_once_accepted": ended }),
        ),
        half(lost_cache == 0, json!({ "alarms_for_a_lost_cache": lost_cache })),
        "a state directory that was put back is an alarm until it is accepted; a lost cache is none",
    ))
}

fn restarted(scene: &Scene<'_>, node: &Node) -> Result<()> {
    let agent = node.agent(scene.lab)?;
    for turn in 0..RESTARTS + KILLS {
        if turn < RESTARTS {
            agent.stop()?
        } else {
            agent.kill()?
        }
        agent.restart()?;
        node.wait_status("has its control plane", SETTLE, |_, status| {
            status["control"]["connected"] == true
        })?;
    }
    Ok(())
}

/// A host with a copy of the node's disk.
fn copied(scene: &Scene<'_>, node: &Node) -> Result<Node> {
    let copy = Node::configure_strict(scene.lab, "copy")?;
    copy_folder(&node.host().folder("lib"), &copy.host().folder("lib"))?;
    Ok(copy)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    make_folder(to)?;
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status()?;
    ensure!(status.success(), "{} is not copied", from.display());
    Ok(())
}

/// Only one place is left, and an operator says that it is the right one.
fn accepted(scene: &Scene<'_>, node: &Node, copy: &Node) -> Result<()> {
    copy.agent(scene.lab)?.stop()?;
    scene.control.rapctl(&format!("node accept {NAME} --cluster {CLUSTER} --yes"))?;
    // It may have been asked to stay away for a minute.
    node.agent(scene.lab)?.stop()?;
    node.agent(scene.lab)?.restart()?;
    node.wait_healthy()?;
    ensure!(doubt(scene)?.is_empty(), "the doubt goes on");
    Ok(())
}

/// A second control plane on the same host, with the keys and the database of the first.
fn second_replica(scene: &Scene<'_>) -> Result<Part> {
    let host = scene.control.host();
    let home = host.folder("home");
    let data = home.join("second");
    make_folder(&data)?;
    for name in ["authority-mode", "product-root.pub", "secret.key", "floors.json", "rows.sealed"] {
        fs::copy(scene.control.data().join(name), data.join(name)).with_context(|| name.to_owned())?;
    }
    let socket = crate::fabric::Intruder::socket_of(&scene.control)?.display().to_string();
    let settings = format!(
        "listen = \"{0}:9443\"\ncontrol_urls = [\"https://{0}:8443\"]\nmetrics = \"off\"\ndata_dir = \"{1}\"\n\
         database_url = \"postgres://rap_owner@localhost/rap?host={socket}\"\n",
        host.address(),
        data.display()
    );
    let file = home.join("second.toml");
    write_secret(&file, settings.as_bytes())?;
    let call =
        Invocation::new("rap-control-plane").arguments(["serve", "--config", &file.display().to_string()]);
    let part = host.spawn("second", &call)?;
    let address = (host.address(), 9443).into();
    wait_until(SETTLE, "the second replica listens", || {
        ensure!(part.is_running()?, "the second replica ended: {}", part.log_tail());
        let connected =
            host.view().enter(|| Ok(std::net::TcpStream::connect_timeout(&address, CALL).is_ok()))?;
        Ok(connected.then_some(()))
    })?;
    Ok(part)
}

/// Waits until the node is doubted for this reason; returns how long that took.
fn found(scene: &Scene<'_>, reason: &str) -> Result<Duration> {
    let started = now();
    wait_until(WITHIN + SETTLE, &format!("{reason} is found"), || {
        Ok((doubt(scene)? == reason).then_some(()))
    })?;
    Ok(started.elapsed())
}

fn doubt(scene: &Scene<'_>) -> Result<String> {
    let node: Value = scene.control.ask(&format!("node show {NAME} --cluster {CLUSTER}"))?;
    Ok(node["doubt"].as_str().context("no doubt field")?.to_owned())
}

const NAME: &str = "twin";
const CLONED: &str = "node.cloned";
const ROLLED_BACK: &str = "node.rolled_back";
const RESTARTS: usize = 50;
const KILLS: usize = 10;
const WITHIN: Duration = Duration::from_secs(60);
/// A node that was asked to stay away is told when it comes back.
const TOLD: Duration = Duration::from_secs(90);
