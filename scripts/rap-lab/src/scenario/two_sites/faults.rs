//! A relay that is gone under running traffic: killed, which is told at once, and cut off, which nobody tells.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::scene::Scene;
use crate::check::Finding;
use crate::fabric::{Node, Sequence, Stream, wait_arrivals};
use crate::wait::rest;

/// The relay's processes end. Traffic goes on through the other one.
pub fn killed(scene: &Scene<'_>) -> Result<Finding> {
    let value = moved(
        scene,
        KILLED,
        |relay| {
            relay.kill_all(scene.lab)?;
            Ok(())
        },
        |relay| {
            relay.run()?;
            relay.wait_healthy().map(drop)
        },
    )?;
    Ok(Finding::new(true, value, "same sockets, equal SHA-256, no datagram twice; at most 1 s of silence"))
}

/// The relay's line is dead and nobody says so.
pub fn cut_silently(scene: &Scene<'_>) -> Result<Finding> {
    let value = moved(
        scene,
        SILENT,
        |relay| scene.lab.cut(relay.name(), None),
        |relay| scene.lab.heal(relay.name(), None),
    )?;
    Ok(Finding::new(true, value, "same sockets, equal SHA-256, no datagram twice; at most 2 s of silence"))
}

/// Takes the relay in use away under running streams, waits until the other one is used, and puts it back.
pub fn moved(
    scene: &Scene<'_>,
    bar: Duration,
    take: impl FnOnce(&Node) -> Result<()>,
    give_back: impl FnOnce(&Node) -> Result<()>,
) -> Result<Value> {
    let [a, b] = &scene.sites;
    let (stream, sequence) = (Stream::open(a, b)?, Sequence::open(a, b)?);
    wait_arrivals(&stream, &sequence)?;
    let (relay, other) = scene.relay_in_use()?;
    rest(Duration::from_secs(2));
    stream.longest_silence();
    sequence.longest_silence();
    take(relay)?;
    let way = scene.wait_way("the other relay is used", Duration::from_secs(20), |way| {
        way.via.as_slice() == [other.name().to_owned()]
    });
    rest(Duration::from_secs(2));
    let silence = (stream.longest_silence(), sequence.longest_silence());
    let back = give_back(relay);
    let (bytes, arrived) = (stream.end(), sequence.end());
    back?;
    way?;
    let (bytes, arrived) = (bytes?, arrived?);
    scene.wait_homes()?;
    let value = json!({
        "from": relay.name(), "to": other.name(), "bytes": bytes, "datagrams": arrived.sent, "lost": arrived.lost,
        "reordered": arrived.reordered, "duplicates": arrived.duplicates,
        "stream_silence_ms": silence.0.as_millis() as u64, "sequence_silence_ms": silence.1.as_millis() as u64,
    });
    ensure!(silence.0 <= bar && silence.1 <= bar, "silent for longer than {bar:?}: {value}");
    ensure!(arrived.duplicates == 0, "datagrams came twice: {value}");
    // 1,000 each second: what is lost was sent during the silence.
    let silent = silence.1.as_millis() as u64;
    ensure!(arrived.lost <= silent + SPARE, "more was lost than was sent during the silence: {value}");
    scene.nothing_direct()?;
    Ok(value)
}

/// Datagrams that a busy machine loses at other times.
const SPARE: u64 = 100;
const KILLED: Duration = Duration::from_secs(1);
const SILENT: Duration = Duration::from_secs(2);
