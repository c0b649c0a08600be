//! Who takes nothing of an answer is ended; who takes it slowly is not.

use std::cell::Cell;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;

use super::dials;
use super::held_open::hold;
use super::scene::{Scene, Size, leave};
use super::shown::{Half, half, shown};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Node, Pace};
use crate::folder::write_secret;
use crate::host::Host;
use crate::slow::Slowness;
use crate::wait::now;

/// A client keeps its window at 0 and answers pings. Beside it a node at 64 kbit/s fetches a snapshot that takes its line longer than the
/// client is given.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let members = match scene.size {
        Size::Short => SHORT,
        Size::Full => FULL,
    };
    scene.control.create_cluster(
        WIDE,
        Pace { refresh_every: Duration::from_secs(60), fresh_for: Duration::from_secs(300) },
    )?;
    let token = scene.control.create_token(WIDE, &format!("--auto-approve --uses {}", members + 1))?;
    join_all(scene, members, &token)?;
    let thin = Node::configure_strict(scene.lab, THIN)?;
    thin.join(&token).context("the thin node joins")?;
    let pin = scene.control.pin()?;
    let client = scene.lab.host("held")?;
    let door = (scene.control.host().address(), 8443).into();
    scene.lab.slow(THIN, Slowness { kbit_per_s: Some(RATE), ..Slowness::default() })?;
    let (held, fetched) = std::thread::scope(|threads| {
        let held = threads.spawn(|| hold(&client, door, &pin, 2 * LONGEST));
        let fetched = fetched(&thin, members);
        let held = held.join().map_err(|_| anyhow!("panic in the client"));
        (held, fetched)
    });
    scene.lab.fast(THIN)?;
    let (held, control) = (held??, fetched?);
    leave(scene, &thin, THIN)?;
    let after = held.ended_after.map(|after| after.as_millis() as u64);
    let effect = half(
        held.ended_after.is_some_and(|after| after <= LONGEST) && held.answered >= 5 && held.data == 0,
        json!({ "ended_after_ms": after, "pings_answered_until_then": held.answered, "bytes_of_the_answer": held.data }),
    );
    let note =
        "a client that takes no answer is ended; a node on a slow line gets its snapshot over one stream";
    Ok(shown(effect, control, note))
}

/// The node starts on the slow line and has the whole snapshot, over one stream.
fn fetched(thin: &Node, members: usize) -> Result<Half> {
    let before = received(thin.host())?;
    thin.run()?;
    thin.wait_status("has its control plane", PATIENCE, |_, status| status["control"]["connected"] == true)?;
    dials::count(thin.host())?;
    let (started, kept) = (now(), Cell::new(true));
    thin.wait_status("has the whole snapshot", PATIENCE, |_, status| {
        kept.set(kept.get() && status["control"]["connected"] == true);
        status["active"]["slots"].as_u64().is_some_and(|slots| slots > members as u64)
    })?;
    let (took, bytes) = (started.elapsed(), received(thin.host())? - before);
    let whole = bytes >= (members * RECORD) as u64;
    // Its line was as slow as it was to be.
    let slow = took.as_secs_f64() * f64::from(RATE) * 125.0 >= (members * RECORD) as f64 * 0.8;
    let dials = dials::counted(thin.host())?;
    Ok(half(
        whole && slow && kept.get() && dials == 0,
        json!({
            "kbit_per_s": RATE, "bytes": bytes, "took_ms": took.as_millis() as u64,
            "stream_kept": kept.get(), "further_dials": dials,
        }),
    ))
}

/// Members that never run, each with endpoints of 8 KB in its record.
fn join_all(scene: &Scene<'_>, members: usize, token: &[u8]) -> Result<()> {
    let host = scene.lab.host("many")?;
    write_secret(&host.folder("home").join("many.token"), token)?;
    let numbers: Vec<usize> = (0..members).collect();
    std::thread::scope(|threads| {
        let joining: Vec<_> = numbers
            .chunks(members.div_ceil(AT_ONCE))
            .map(|numbers| threads.spawn(|| numbers.iter().try_for_each(|number| join(&host, *number))))
            .collect();
        joining
            .into_iter()
            .try_for_each(|joined| joined.join().map_err(|_| anyhow!("panic while joining"))?)
    })
}

fn join(host: &Host, number: usize) -> Result<()> {
    let label = "x".repeat(57);
    let endpoints = |port: u16| -> String {
        let names = (0..16)
            .map(|name| format!("\"{label}.{label}.{label}.{label}.m{number}-{name}.example:{port}\""));
        names.collect::<Vec<_>>().join(", ")
    };
    let (lib, run) =
        (host.sees("lib").join(format!("m{number}")), host.sees("run").join(format!("m{number}")));
    let settings = format!(
        "name = \"m{number}\"\nno_tun = true\nenrollment_poll_interval_seconds = 1\ndata_dir = \"{}\"\nsocket = \"{}/agent.sock\"\n\
         advertise = [{}]\nadvertise_wireguard = [{}]\n",
        lib.display(),
        run.display(),
        endpoints(7443),
        endpoints(51820)
    );
    let name = format!("m{number}.toml");
    fs::write(host.folder("etc").join(&name), settings)?;
    let call = Invocation::typed("rap-node-agent join --token-file many.token")?
        .variable("RAP_CONFIG", host.sees("etc").join(&name).display().to_string());
    host.run(&call, CALL)?.success().map(drop)
}

/// Bytes that came over its line.
fn received(host: &Host) -> Result<u64> {
    let answer = host.typed("ip -s -j link show dev eth0", CALL)?;
    let document: serde_json::Value = serde_json::from_str(&answer.stdout)?;
    let bytes = document[0]["stats64"]["rx"]["bytes"].as_u64();
    ensure!(bytes.is_some(), "no statistics: {}", answer.stdout);
    Ok(bytes.unwrap_or_default())
}

const WIDE: &str = "wide";
const THIN: &str = "thin";
/// Kilobits per second.
const RATE: u32 = 64;
/// Bytes of one member's endpoints.
const RECORD: usize = 8_000;
/// 160 KB: 20 s of the line.
const SHORT: usize = 20;
/// 500 KB.
const FULL: usize = 63;
const AT_ONCE: usize = 8;
const LONGEST: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(150);
