//! Links that lose packets and are alive: none may be left.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use rap_mesh::PathEvent;

use super::findings::Findings;
use super::part::run_tool;
use super::scene::{RELAYS, Scene, relay};
use super::support::{Authority, HOME};

/// Counts the paths that end while 2 % of all packets are lost.
pub(super) async fn measure(quick: bool, findings: &mut Findings) -> Result<()> {
    let authority = Authority::new(HOME);
    let (mut scenes, mut relays) = (Vec::new(), Vec::new());
    for number in 0..SCENES {
        let both = RELAYS
            .map(|relay_number| relay(&authority, relay_number, Ipv4Addr::new(127, 4, number, relay_number)));
        scenes.push(Scene::join(&authority, [both[0].node.address(), both[1].node.address()]).await);
        relays.extend(both);
    }
    let rule = "table ip bench { counter lost {}; chain in { type filter hook input priority 0; \
                meta l4proto tcp numgen random mod 50 < 1 counter name lost drop; }; }";
    run_tool("nft", &[rule])?;
    let lasts = Duration::from_secs(if quick { 20 } else { 150 });
    let end = tokio::time::Instant::now() + lasts;
    while tokio::time::Instant::now() < end {
        for scene in &scenes {
            for path in [scene.primary, scene.backup] {
                // One that ended takes nothing; it is counted below.
                let _ = scene.a.mesh().send_on_path(path, b"data passes");
            }
        }
        tokio::time::sleep_until(end.min(tokio::time::Instant::now() + BETWEEN)).await;
    }
    let lost = run_tool("nft", &["list", "counter", "ip", "bench", "lost"])?;
    let lost = lost.split("packets ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or("0");
    ensure!(lost.parse::<u64>()? > 100, "{lost} packets were lost");
    let mut ended = Vec::new();
    for scene in &mut scenes {
        let mut count = 0;
        while let Ok(event) = scene.a.events.try_recv() {
            count += u32::from(matches!(event, PathEvent::Down { .. }));
        }
        ended.push(f64::from(count));
    }
    let note = format!(
        "{} links over which data passes, {} s each; {lost} packets were lost; the round trip is that of the loopback interface",
        SCENES * 4,
        lasts.as_secs(),
    );
    findings.add("failovers", ended, &note);
    drop(relays);
    Ok(())
}

/// Four links each.
const SCENES: u8 = 6;
/// So rarely that probes, not data, say whether a peer lives.
const BETWEEN: Duration = Duration::from_secs(4);
