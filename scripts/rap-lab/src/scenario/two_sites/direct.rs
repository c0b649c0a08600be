//! A line between the sites: traffic moves there, and back to a relay when the line is gone.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::scene::{ROUTERS, Scene};
use crate::check::Finding;
use crate::fabric::{Sequence, Stream, wait_arrivals};
use crate::wait::{now, rest};

/// The same sockets use the direct way while there is one.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let [a, b] = &scene.sites;
    let (stream, sequence) = (Stream::open(a, b)?, Sequence::open(a, b)?);
    wait_arrivals(&stream, &sequence)?;
    scene.relay_in_use()?;
    let [_, before] = scene.udp_between()?;
    ensure!(before == 0, "{before} packets passed a line that is not there");
    scene.lab.lay_line(ROUTERS[0], ROUTERS[1])?;
    let laid = now();
    let up = scene.wait_way("the direct way is used", UP, |way| way.kind == "direct");
    let up_after = laid.elapsed();
    rest(Duration::from_secs(2));
    let silence_up = [stream.longest_silence(), sequence.longest_silence()];
    let [_, direct] = scene.udp_between()?;
    scene.lab.take_line(ROUTERS[0])?;
    let down = scene.wait_way("a relay is used again", DOWN, |way| way.kind == "relayed");
    rest(Duration::from_secs(2));
    let silence_down = [stream.longest_silence(), sequence.longest_silence()];
    let (bytes, arrived) = (stream.end()?, sequence.end()?);
    up?;
    down?;
    let value = json!({
        "direct_after_s": up_after.as_secs_f64(), "direct_packets": direct, "bytes": bytes,
        "datagrams": arrived.sent, "lost": arrived.lost, "reordered": arrived.reordered,
        "silence_up_ms": silence_up.map(|silence| silence.as_millis() as u64),
        "silence_down_ms": silence_down.map(|silence| silence.as_millis() as u64),
    });
    ensure!(direct > 1000, "few packets took the direct way: {value}");
    ensure!(arrived.duplicates == 0, "datagrams came twice: {value}");
    let most = |silence: [Duration; 2]| silence[0].max(silence[1]);
    ensure!(most(silence_up) <= SILENT_UP, "silent for long when the line was laid: {value}");
    ensure!(most(silence_down) <= SILENT_DOWN, "silent for long after the line was cut: {value}");
    scene.nothing_direct()?;
    Ok(Finding::new(true, value, "up after probes, down at once, on the same sockets"))
}

const SILENT_UP: Duration = Duration::from_secs(1);
const SILENT_DOWN: Duration = Duration::from_secs(2);
const UP: Duration = Duration::from_secs(60);
const DOWN: Duration = Duration::from_secs(30);
