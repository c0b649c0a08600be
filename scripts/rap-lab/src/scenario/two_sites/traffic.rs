//! Traffic through a relay: pings, a stream of bytes, numbered datagrams, and by which way they went.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::scene::Scene;
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Node, Sequence, Stream};
use crate::wait::{rest, wait_until};

/// Hosts ping each other over the overlay, and the node says through whom.
pub fn ping(scene: &Scene<'_>) -> Result<Finding> {
    let [a, b] = &scene.sites;
    let first = a.wait_answer(b)?;
    let pings = a.ping(b, 20)?;
    ensure!(pings.lost() <= 1, "{} of {} pings were lost", pings.lost(), pings.sent);
    let (relay, _) = scene.relay_in_use()?;
    let said =
        scene.control.ask(&format!("ping {} {} --cluster {}", a.name(), b.name(), super::scene::CLUSTER))?;
    ensure!(said["way"] == "relayed", "rapctl says {said}");
    ensure!(said["via"][0]["name"] == relay.name(), "rapctl says {said}");
    scene.nothing_direct()?;
    let value = json!({
        "first_answer_ms": first.as_millis() as u64, "median_ms": pings.median_ms(), "via": relay.name(),
    });
    Ok(Finding::new(true, value, "TUN to TUN through a relay, which rapctl names; no UDP between the sites"))
}

/// Bytes and datagrams come out as they went in, and pass the relay that the node names.
pub fn streams(scene: &Scene<'_>) -> Result<Finding> {
    let [a, b] = &scene.sites;
    let (relay, other) = scene.relay_in_use()?;
    let before = (carried(scene, relay)?, carried(scene, other)?);
    let (stream, sequence) = (Stream::open(a, b)?, Sequence::open(a, b)?);
    rest(Duration::from_secs(5));
    let bytes = stream.end()?;
    let arrived = sequence.end()?;
    let after = (carried(scene, relay)?, carried(scene, other)?);
    ensure!(arrived.duplicates == 0, "{arrived:?}");
    ensure!(arrived.sent > 1000 && arrived.lost * 100 <= arrived.sent, "{arrived:?}");
    let through = after.0 - before.0;
    ensure!(through >= bytes, "{through} bytes passed {}, the stream has {bytes}", relay.name());
    scene.nothing_direct()?;
    let value = json!({
        "bytes": bytes, "relay_bytes": through, "other_relay_bytes": after.1 - before.1,
        "datagrams": arrived.sent, "lost": arrived.lost, "reordered": arrived.reordered,
    });
    Ok(Finding::new(true, value, "equal SHA-256 at both ends; the relay's counter has the bytes"))
}

/// A program that knows nothing of the overlay measures what the way carries.
pub fn iperf3(scene: &Scene<'_>) -> Result<Finding> {
    let [a, b] = &scene.sites;
    let address = b.overlay_address(a)?;
    let server = Invocation::typed(&format!("iperf3 --server --one-off --bind {address}"))?;
    let server = b.host().spawn("b-iperf3", &server).context("Debian package iperf3")?;
    let client = Invocation::typed(&format!("iperf3 --client {address} --time 3 --json"))?;
    let measured = wait_until(CALL, "iperf3 measures", || {
        ensure!(server.is_running()?, "the server ended: {}", server.log_tail());
        let answer: Value = serde_json::from_str(&a.host().run(&client, CALL)?.success()?.stdout)?;
        Ok(Some(answer["end"].clone()))
    })?;
    server.wait_end(CALL)?;
    scene.nothing_direct()?;
    let rate = measured["sum_received"]["bits_per_second"].as_f64().context("no rate")?;
    ensure!(rate >= LEAST_BITS_PER_S, "{rate:.0} bits per second");
    let retransmits = &measured["sum_sent"]["retransmits"];
    let value = json!({ "mbit_per_s": (rate / 1e6).round(), "retransmits": retransmits });
    Ok(Finding::new(true, value, "one TCP flow of 3 s between the TUN addresses"))
}

/// Bytes that came to a relay over its links.
fn carried(scene: &Scene<'_>, relay: &Node) -> Result<u64> {
    scene.lab.bytes_to(relay.name())
}

/// Any machine does more, and a way that loses or stalls does less.
const LEAST_BITS_PER_S: f64 = 5e6;
