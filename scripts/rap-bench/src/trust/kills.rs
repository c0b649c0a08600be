//! kill -9 of an agent while the control plane writes: how soon it is up again, and whether a floor ever fell.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::agent::Host;
use crate::measure::Stopwatch;
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
    let rounds = if settings.quick { 12 } else { 200 };
    let token = super::token(operator, folder, CLUSTER, 1, true).await?;
    let mut host = Host::new(&settings.programs, folder, "victim")?;
    host.start().await?;
    host.join(&token).await?;
    let (mut up, mut regressions, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    let mut floor = (0, 0);
    for round in 0..rounds {
        // Once writes reach its disk: at a moment that moves from round to round.
        let moment = Duration::from_micros(round * 7919 % 50_000);
        let enough = Cell::new(false);
        let watch = async {
            let first = advanced(&host, floor).await;
            tokio::time::sleep(moment).await;
            let last = host.status().await;
            host.kill();
            enough.set(true);
            first.map(|first| last.map_or(first, |status| order(&status)))
        };
        let (loaded, seen) = tokio::join!(load(operator, round, &enough), watch);
        loaded?;
        let seen = seen?;
        floor = floor.max(seen);
        let stored = stored_floor(&host.state().join("default"))?;
        regressions.push(f64::from(u8::from(stored < floor)));
        floor = floor.max(stored);
        let watch = Stopwatch::start();
        host.launch()?;
        if round % 4 == 3 {
            // Killed again in the middle of its start.
            tokio::time::sleep(Duration::from_micros(round * 1009 % 60_000)).await;
            host.kill();
            let stored = stored_floor(&host.state().join("default"))?;
            regressions.push(f64::from(u8::from(stored < floor)));
            host.launch()?;
        }
        let status = host.answers().await?;
        up.push(watch.elapsed_ms());
        ensure!(status["node_id"].is_string(), "the membership is gone: {status}");
        let active = &status["active"];
        lost.push(f64::from(u8::from(active.is_null() || status["cache"]["quarantined"] != 0)));
    }
    host.stop().await?;
    ensure!(floor.1 > rounds, "there was no write load: {rounds} kills, and version {} at the end", floor.1);
    let note = format!(
        "{rounds} kills of rap-node-agent while node tags change as fast as the control plane answers, every fourth \
         followed by a kill during the start; from the start of the process until its socket answers with the membership"
    );
    let floors = format!(
        "{} looks at the floors on disk after a kill, against the highest version and floor seen before it; version {} at the end",
        regressions.len(),
        floor.1
    );
    measured.insert("up", (up, note.clone()));
    measured.insert("regressions", (regressions, floors));
    measured.insert("caches_lost", (lost, format!("{note}; 1 where it started without a stored snapshot")));
    Ok(())
}

/// Changes the node as fast as it is answered, until it is enough.
async fn load(operator: &mut Operator, round: u64, enough: &Cell<bool>) -> Result<()> {
    let mut turn = 0_u64;
    while !enough.get() {
        operator.set_tags(CLUSTER, "victim", vec![format!("r{round}-{}", turn % 1000)]).await?;
        turn += 1;
    }
    Ok(())
}

/// Waits until the agent has activated, and so stored, something newer than `floor`.
async fn advanced(host: &Host, floor: (u64, u64)) -> Result<(u64, u64)> {
    let watch = Stopwatch::start();
    while watch.elapsed() < ADVANCE {
        if let Ok(status) = host.status().await
            && order(&status) > floor
        {
            return Ok(order(&status));
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("nothing newer than version {} within {ADVANCE:?}", floor.1)
}

fn order(status: &Value) -> (u64, u64) {
    let active = &status["active"];
    (active["incarnation"].as_u64().unwrap_or(0), active["sequence"].as_u64().unwrap_or(0))
}

/// (incarnation, version) of the intact copy of the floors with the highest generation.
fn stored_floor(membership: &Path) -> Result<(u64, u64)> {
    let name = rap_state::MembershipName::new("default")?;
    let data = membership.parent().context("a data directory")?;
    let dir = rap_state::MembershipDir::open(data, &name)?;
    let (floors, _) = rap_state::FloorStore::open(&dir)?;
    let floors = floors.current();
    Ok((floors.incarnation.0, floors.version.0))
}

const CLUSTER: &str = "killed";
const ADVANCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);
