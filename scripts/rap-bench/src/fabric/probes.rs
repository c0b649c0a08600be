//! What a node sends and receives only to know that its peers live.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rap_wire::v1::{TableLink, TablePath};

use super::findings::Findings;
use super::part::run_tool;
use super::planes::{Node, Plane, crowd, node, table, until};
use super::scene::{RELAYS, Scene, relay};
use super::support::{Authority, HOME};
use crate::measure::Stopwatch;

/// Kilobits per second of a data plane that is linked with five relays, knows 1,000 peers, and has nothing to carry.
pub(super) fn idle(programs: &Path, quick: bool, findings: &mut Findings) -> Result<()> {
    let authority = Authority::new(HOME);
    let at = |number: u8| node(number, Ipv4Addr::new(127, 6, 0, number));
    let relays: Vec<Node> = (0..LINKS).map(|number| at(101 + number)).collect();
    let own = at(1);
    let _relays = relays
        .iter()
        .map(|relay| Plane::relay(programs, &authority, relay, &[own]))
        .collect::<Result<Vec<_>>>()?;
    let mut first = table(&authority, &own, &relays);
    first.relays = relays.iter().map(|relay| relay.id().to_vec()).collect();
    for peer in &mut first.peers {
        peer.link = TableLink::Dial.into();
    }
    first.peers.extend(crowd(KNOWN, 0));
    for peer in &mut first.peers {
        peer.keepalive_s = KEEPALIVE_S;
        if peer.wireguard_endpoints.iter().any(|endpoint| endpoint.starts_with("192.")) {
            // Where it would be counted.
            peer.wireguard_endpoints = vec!["127.6.1.1:51820".to_owned()];
            // As in every cluster with relays.
            let path = |relay| Some(TablePath { relays: vec![relay] });
            (peer.primary, peer.backup) = (path(0), path(1));
        }
    }
    let mut command = Command::new(programs.join("rap-dataplane"));
    command.env("RAP_DATAPLANE_NO_TUN", "true");
    let mut plane = Plane::start(command, &own, first)?;
    until("linked with the relays", || {
        let stats = plane.agent.stats();
        let up = stats.peers.iter().filter(|peer| peer.link_state == "established").count();
        (up == usize::from(LINKS)).then_some(())
    })?;
    let seconds = if quick { 20 } else { 60 };
    let kbits = counted(SETTLE, Duration::from_secs(seconds), || Ok(()))?;
    let note = format!(
        "a data plane with {LINKS} links and {KNOWN} more peers behind them, {seconds} s; whole packets of both directions, with what TCP adds"
    );
    findings.add("probes_idle", vec![kbits], &note);
    Ok(())
}

/// The same of a node whose five links all carry data, too rarely to stand for a probe.
pub(super) async fn busy(quick: bool, findings: &mut Findings) -> Result<()> {
    let authority = Authority::new(HOME);
    let (mut scenes, mut kept) = (Vec::new(), Vec::new());
    for number in 0..LINKS {
        let both = RELAYS
            .map(|relay_number| relay(&authority, relay_number, Ipv4Addr::new(127, 7, number, relay_number)));
        scenes.push(Scene::join(&authority, [both[0].node.address(), both[1].node.address()]).await);
        kept.extend(both);
    }
    let seconds = if quick { 15 } else { 30 };
    let data = || {
        for scene in &scenes {
            scene.a.mesh().send_on_path(scene.primary, b"data").ok().context("a path ended")?;
        }
        Ok(())
    };
    let kbits = tokio::task::block_in_place(|| counted(SETTLE, Duration::from_secs(seconds), data))?;
    let note = format!(
        "{LINKS} links that carry a datagram every {EVERY:?}, and {LINKS} idle ones, {seconds} s; whole packets with what TCP adds; \
         half of what both ends have"
    );
    findings.add("probes_busy", vec![kbits / 2.0], &note);
    Ok(())
}

/// Kilobits per second that pass the loopback interface, once `settle` is over.
fn counted(settle: Duration, lasts: Duration, mut every: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut wait = |lasts: Duration| -> Result<()> {
        let watch = Stopwatch::start();
        while watch.elapsed() < lasts {
            every()?;
            std::thread::park_timeout(lasts.saturating_sub(watch.elapsed()).min(EVERY));
        }
        Ok(())
    };
    wait(settle)?;
    let rule = "table ip bench { counter passed {}; chain in { type filter hook input priority 0; counter name passed; }; }";
    run_tool("nft", &[rule])?;
    let watch = Stopwatch::start();
    wait(lasts)?;
    let text = run_tool("nft", &["list", "counter", "ip", "bench", "passed"])?;
    let bytes =
        text.split("bytes ").nth(1).and_then(|rest| rest.split_whitespace().next()).context("no counter")?;
    Ok(bytes.parse::<f64>()? * 8.0 / 1000.0 / watch.elapsed().as_secs_f64())
}

const LINKS: u8 = 5;
const KNOWN: u16 = 1_000;
/// As policies have it by default.
const KEEPALIVE_S: u32 = 25;
/// What begins is over.
const SETTLE: Duration = Duration::from_secs(4);
/// Between two datagrams.
const EVERY: Duration = Duration::from_secs(4);
