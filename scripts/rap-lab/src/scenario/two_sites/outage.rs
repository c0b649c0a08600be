//! Control plane and PostgreSQL are dead for a while, one agent for a part of it, and meanwhile a relay dies.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::faults;
use super::scene::{PATH_LIFETIME, Scene};
use crate::check::Finding;
use crate::fabric::{Sequence, Stream, wait_arrivals};
use crate::wait::{now, rest};

/// Traffic goes on past the freshness of the snapshot and past several lives of a path; then everybody comes back.
pub fn check(scene: &Scene<'_>, outage: Duration) -> Result<Finding> {
    let [a, b] = &scene.sites;
    scene.relay_in_use()?;
    scene.control.kill_with_postgres(scene.lab)?;
    let began = now();
    let found = meanwhile(scene, began, outage);
    scene.control.restart(scene.lab)?;
    scene.control.wait_answering()?;
    for node in scene.relays.iter().chain(&scene.sites) {
        node.wait_healthy()?;
    }
    a.wait_answer(b)?;
    found
}

fn meanwhile(scene: &Scene<'_>, began: Instant, outage: Duration) -> Result<Finding> {
    let [a, b] = &scene.sites;
    let (stream, sequence) = (Stream::open(a, b)?, Sequence::open(a, b)?);
    wait_arrivals(&stream, &sequence)?;
    stream.longest_silence();
    sequence.longest_silence();
    // The agent of the source is dead for longer than a path lives: the data plane renews alone.
    a.agent(scene.lab)?.kill()?;
    let alone = PATH_LIFETIME + Duration::from_secs(10);
    rest(alone);
    let silence_alone = (stream.longest_silence(), sequence.longest_silence());
    a.run()?;
    a.wait_status("is degraded and has its data plane", crate::fabric::SETTLE, |_, status| {
        status["dataplane"]["up"] == true && status["degraded"] == true
    })?;
    let moved = faults::moved(
        scene,
        Duration::from_secs(1),
        |relay| relay.kill_all(scene.lab),
        |relay| relay.run().map(drop),
    );
    rest(outage.saturating_sub(began.elapsed()));
    let silence = (stream.longest_silence(), sequence.longest_silence());
    let (bytes, arrived) = (stream.end()?, sequence.end()?);
    let value = json!({
        "seconds": began.elapsed().as_secs(), "agent_dead_s": alone.as_secs(), "bytes": bytes,
        "datagrams": arrived.sent, "lost": arrived.lost, "duplicates": arrived.duplicates,
        "silence_agent_dead_ms": [silence_alone.0.as_millis() as u64, silence_alone.1.as_millis() as u64],
        "silence_ms": [silence.0.as_millis() as u64, silence.1.as_millis() as u64], "relay_killed": moved?,
    });
    ensure!(began.elapsed() >= outage, "the outage was too short: {value}");
    ensure!(silence_alone.0.max(silence_alone.1) <= Duration::from_secs(1), "silent while alone: {value}");
    ensure!(arrived.duplicates == 0, "datagrams came twice: {value}");
    scene.nothing_direct()?;
    Ok(Finding::new(
        true,
        value,
        "the snapshot went stale, paths were renewed without agent and control plane, a relay died",
    ))
}
