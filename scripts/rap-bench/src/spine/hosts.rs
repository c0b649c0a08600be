//! What the shipped programs show on one machine: joining, memory at rest, cold start.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::agent::Host;
use crate::operator::Operator;
use crate::scenario::Measured;
use crate::settings::Settings;

/// Measures every row of this part.
pub async fn measure(
    settings: &Settings,
    folder: &Path,
    operator: &mut Operator,
    measured: &mut Measured,
) -> Result<()> {
    let joins = if settings.quick { 2 } else { 8 } * settings.rounds as usize;
    let mut took = Vec::new();

    let mut trio = Vec::new();
    let token = token(operator, folder, "trio", 3).await?;
    for name in ["host-a", "host-b", "host-c"] {
        let mut host = Host::new(&settings.programs, folder, name)?;
        host.start().await?;
        took.push(host.join(&token).await?);
        trio.push(host);
    }
    if settings.wants(&["agent_rss_idle", "dataplane_rss_idle"]) {
        memory(settings, &mut trio, measured).await.context("memory")?;
    }
    if settings.wants(&["cold_start_to_overlay"]) {
        cold_start(settings, &mut trio, measured).await.context("cold start")?;
    }
    for host in &mut trio {
        host.stop().await?;
    }

    if settings.wants(&["join_p50", "join_p99"]) {
        let more = joins.saturating_sub(took.len());
        let token = self::token(operator, folder, "joiners", u32::try_from(more.max(1))?).await?;
        for number in 0..more {
            let mut host = Host::new(&settings.programs, folder, &format!("joiner-{number}"))?;
            host.start().await?;
            took.push(host.join(&token).await?);
            host.stop().await?;
        }
        let note = "rap-node-agent join, from its start until the running agent has activated a verified snapshot \
                    (state on disk, data plane started meanwhile); one join after the other, looked at every 5 ms";
        measured.insert("join_p50", (took.clone(), note.to_owned()));
        measured.insert("join_p99", (took, format!("the same {} joins, nearest rank", joins.max(3))));
    }
    Ok(())
}

/// Makes a cluster and writes an approving token for it.
async fn token(operator: &mut Operator, folder: &Path, cluster: &str, uses: u32) -> Result<PathBuf> {
    operator.cluster(cluster).await?;
    let path = folder.join(format!("{cluster}.token"));
    crate::process::write_private(&path, &operator.token(cluster, uses).await?)?;
    Ok(path)
}

async fn memory(settings: &Settings, trio: &mut [Host], measured: &mut Measured) -> Result<()> {
    for host in trio.iter_mut() {
        host.linked(2).await?;
    }
    // Nothing to wait for: at rest means that nothing happens.
    tokio::time::sleep(Duration::from_secs(if settings.quick { 2 } else { 10 })).await;
    let (mut agents, mut dataplanes) = (Vec::new(), Vec::new());
    for host in trio.iter_mut() {
        let (agent, dataplane) = host.resident_bytes().await?;
        agents.push(agent as f64 / 1e6);
        dataplanes.push(dataplane as f64 / 1e6);
    }
    let note =
        "resident memory (VmRSS, 1 MB = 10^6 bytes) at rest, on each of three hosts with two linked peers";
    measured.insert("agent_rss_idle", (agents, note.to_owned()));
    measured.insert("dataplane_rss_idle", (dataplanes, format!("{note}; no TUN device")));
    Ok(())
}

async fn cold_start(settings: &Settings, trio: &mut [Host], measured: &mut Measured) -> Result<()> {
    let [first, second, ..] = trio else { anyhow::bail!("two hosts are needed") };
    first.first_overlay_ping(&second.name).await?;
    let mut took = Vec::new();
    for _ in 0..settings.rounds {
        first.stop().await?;
        first.launch()?;
        took.push(first.first_overlay_ping(&second.name).await?);
    }
    let note = "start of agent and data plane processes with stored state until the first ping over the overlay \
                (WireGuard on loopback, no TUN device) is answered by a running peer";
    measured.insert("cold_start_to_overlay", (took, note.to_owned()));
    Ok(())
}
