//! How long nothing arrives when the relay of a path is killed, falls silent or is stopped.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use super::findings::Findings;
use super::part::run_tool;
use super::planes::{Node, Plane, link_of, node};
use super::scene::{A, B, RELAYS, Scene, relay};
use super::support::{Authority, HOME};

/// A relay process is killed: its sockets close.
pub(super) async fn closed(programs: &Path, quick: bool, findings: &mut Findings) -> Result<()> {
    let authority = Authority::new(HOME);
    let mut runs = Vec::new();
    for _ in 0..if quick { 15 } else { 60 } {
        let [primary, _backup] = planes(programs, &authority, 0)?;
        let mut scene = Scene::join(&authority, addresses(0).map(|node| link_of(&node))).await;
        runs.push(scene.outage(|| primary.signal(Signal::SIGKILL)).await?);
    }
    let note =
        "relays are processes; from SIGKILL to the first datagram at the other end, one sent every 5 ms";
    findings.add("closed", runs, note);
    Ok(())
}

/// A relay process is stopped: its kernel still acknowledges.
pub(super) async fn stopped(programs: &Path, quick: bool, findings: &mut Findings) -> Result<()> {
    let authority = Authority::new(HOME);
    let (mut runs, each) = (Vec::new(), 8);
    for _ in 0..if quick { 1 } else { 3 } {
        let mut scenes = Vec::new();
        for number in 0..each {
            let planes = planes(programs, &authority, number)?;
            scenes
                .push((planes, Scene::join(&authority, addresses(number).map(|node| link_of(&node))).await));
        }
        let mut trials = JoinSet::new();
        for ([primary, backup], mut scene) in scenes {
            trials.spawn(async move {
                let outage = scene.outage(|| primary.signal(Signal::SIGSTOP)).await;
                drop((primary, backup));
                outage
            });
        }
        for outage in trials.join_all().await {
            runs.push(outage?);
        }
    }
    findings.add("stopped", runs, "relays are processes; eight at a time");
    Ok(())
}

/// Packets to and from a relay vanish.
pub(super) async fn silent(quick: bool, findings: &mut Findings) -> Result<()> {
    run_tool(
        "nft",
        &[
            "table ip bench { set gone { type ipv4_addr; }; chain in { type filter hook input priority 0; ip daddr @gone drop; ip saddr @gone drop; }; }",
        ],
    )?;
    let authority = Authority::new(HOME);
    let (mut runs, each) = (Vec::new(), 25);
    for batch in 0..if quick { 3 } else { 9 } {
        let mut trials = JoinSet::new();
        for number in 0..each {
            let address = |relay: u8| Ipv4Addr::new(127, 2, batch * each + number + 1, relay);
            let relays = RELAYS.map(|number| relay(&authority, number, address(number)));
            let addresses = [relays[0].node.address(), relays[1].node.address()];
            let mut scene = Scene::join(&authority, addresses).await;
            let gone = address(RELAYS[0]).to_string();
            trials.spawn(async move {
                let cut = || {
                    let added = run_tool("nft", &["add", "element", "ip", "bench", "gone", "{", &gone, "}"]);
                    if let Err(error) = added {
                        eprintln!("{error:#}");
                    }
                };
                let outage = scene.outage(cut).await;
                relays.iter().for_each(|relay| relay.node.tasks.token().cancel());
                outage
            });
        }
        for outage in trials.join_all().await {
            runs.push(outage.context("a relay fell silent")?);
        }
    }
    let note = "relays in this process, whose address the packet filter drops both ways; 25 at a time; the round trip is that of \
                the loopback interface: one of 50 ms adds as much";
    findings.add("silent", runs, note);
    Ok(())
}

fn addresses(scene: u8) -> [Node; 2] {
    RELAYS.map(|number| node(number, Ipv4Addr::new(127, 3, scene, number)))
}

fn planes(programs: &Path, authority: &Authority, scene: u8) -> Result<[Plane; 2]> {
    let ends = [A, B].map(|number| node(number, Ipv4Addr::LOCALHOST));
    let [primary, backup] = addresses(scene);
    Ok([
        Plane::relay(programs, authority, &primary, &ends)?,
        Plane::relay(programs, authority, &backup, &ends)?,
    ])
}
