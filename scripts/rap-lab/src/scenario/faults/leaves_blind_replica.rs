//! Agents leave a replica that lost its database for one that has it, and stay where they are if none has.

use std::time::Duration;

use anyhow::{Result, anyhow};
use serde_json::json;

use super::database::without_new_sessions;
use super::dials;
use super::replicas::Replicas;
use super::scene::{CLUSTER, Scene, Size, leave};
use super::shown::{Half, half, shown};
use crate::check::Finding;
use crate::fabric::{Intruder, Node, SETTLE};
use crate::wait::{now, rest, wait_until};

/// Three replicas and a herd of agents, all at one of them. That one is cut off its database, and then the other two.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let (agents, watched) = match scene.size {
        Size::Short => (6, Duration::from_secs(20)),
        Size::Full => (30, Duration::from_secs(60)),
    };
    Replicas::during(scene, |replicas, intruder| {
        let herd = joined(scene, agents)?;
        let measured = moved(replicas, intruder, &herd).and_then(|effect| {
            let control = stays(scene, replicas, intruder, &herd, watched)?;
            Ok((effect, control))
        });
        replicas.see()?;
        each(&herd, |node| leave(scene, node, node.name()))?;
        let (effect, control) = measured?;
        let note = "agents leave a blind replica and stay fresh; with all replicas blind every stream stays and few dial";
        Ok(shown(effect, control, note))
    })
}

fn joined(scene: &Scene<'_>, agents: usize) -> Result<Vec<Node>> {
    let token = scene.control.create_token(CLUSTER, &format!("--auto-approve --uses {agents}"))?;
    let herd: Vec<Node> = (0..agents)
        .map(|number| Node::configure_strict(scene.lab, &format!("herd{number}")))
        .collect::<Result<_>>()?;
    each(&herd, |node| {
        node.join(&token)?;
        node.run()?;
        node.wait_healthy().map(drop)
    })?;
    Ok(herd)
}

/// All of them are at the first new replica, and then elsewhere.
fn moved(replicas: &Replicas<'_>, intruder: &Intruder, herd: &[Node]) -> Result<Half> {
    let left = replicas.url(1);
    wait_until(SETTLE, "all agents are at one replica", || {
        let looks = each(herd, look)?;
        Ok(looks.iter().all(|look| look.connected && look.url == left).then_some(()))
    })?;
    let started = now();
    replicas.blind(1, intruder)?;
    let mut fresh = true;
    let after = wait_until(SETTLE, "all agents left the blind replica", || {
        let looks = each(herd, look)?;
        fresh &= looks.iter().all(|look| look.fresh);
        Ok(looks.iter().all(|look| look.connected && look.url != left).then(|| started.elapsed()))
    })?;
    Ok(half(
        fresh && after <= WITHIN,
        json!({ "agents": herd.len(), "all_left_after_ms": after.as_millis() as u64, "always_fresh": fresh }),
    ))
}

/// No replica reads or writes, and every stream stays.
fn stays(
    scene: &Scene<'_>,
    replicas: &Replicas<'_>,
    intruder: &Intruder,
    herd: &[Node],
    watched: Duration,
) -> Result<Half> {
    let sessions = replicas.sessions(intruder)?;
    without_new_sessions(scene, intruder, || {
        replicas.end(&sessions);
        wait_until(SETTLE, "no replica is ready", || {
            Ok((!replicas.is_ready(0)? && !replicas.is_ready(1)? && !replicas.is_ready(2)?).then_some(()))
        })?;
        each(herd, |node| dials::count(node.host()))?;
        let before = each(herd, look)?;
        let (started, mut kept) = (now(), before.iter().all(|look| look.connected));
        while started.elapsed() < watched {
            let same = |(then, now): (&Look, &Look)| now.connected && then.url == now.url;
            kept &= before.iter().zip(&each(herd, look)?).all(same);
            rest(PAUSE);
        }
        let dials = each(herd, |node| dials::counted(node.host()))?;
        let (most, all) = (dials.iter().max().copied().unwrap_or_default(), dials.iter().sum::<u64>());
        Ok(half(
            kept && all > 0 && most <= MOST,
            json!({ "watched_ms": watched.as_millis() as u64, "streams_kept": kept, "dials": all, "most_of_one": most }),
        ))
    })
}

/// What an agent says of its control plane.
struct Look {
    connected: bool,
    url: String,
    fresh: bool,
}

fn look(node: &Node) -> Result<Look> {
    let (_, status) = node.status()?;
    Ok(Look {
        connected: status["control"]["connected"] == true,
        url: status["control"]["url"].as_str().unwrap_or_default().trim_end_matches('/').to_owned(),
        fresh: status["freshness"]["state"] == "fresh",
    })
}

/// The same for each node, a few at once.
fn each<T: Send>(herd: &[Node], act: impl Fn(&Node) -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|threads| {
        let act = &act;
        let parts: Vec<_> = herd
            .chunks(herd.len().div_ceil(AT_ONCE))
            .map(|part| threads.spawn(move || part.iter().map(act).collect::<Result<Vec<T>>>()))
            .collect();
        let mut all = Vec::new();
        for part in parts {
            all.extend(part.join().map_err(|_| anyhow!("panic beside an agent"))??);
        }
        Ok(all)
    })
}

const WITHIN: Duration = Duration::from_secs(20);
/// Dials of one agent in a minute.
const MOST: u64 = 2;
const AT_ONCE: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);
