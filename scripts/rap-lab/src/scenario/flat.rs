//! Three nodes that hear each other: they need no relay, and what the lab does to wires and processes reaches their traffic.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::json;

use super::Scenario;
use crate::check::{Finding, Report};
use crate::fabric::{Installation, Node, Pace, SETTLE};
use crate::lab::Lab;
use crate::mode::Mode;
use crate::topology::Topology;
use crate::wait::wait_until;

/// See the module.
pub const FLAT: Scenario = Scenario {
    name: "flat",
    shows: "three nodes that hear each other talk directly, and feel each fault that the lab can make",
    needs_programs: true,
    run,
};

fn run(lab: &Lab, report: &mut Report) -> Result<()> {
    ensure!(lab.mode() == Mode::Namespaces, "cuts need network namespaces, and those need root");
    let made = Installation::make(lab, &Topology::flat(&["a", "b", "c"]), ("flat", Pace::default()), |_| {
        String::new()
    })?;
    report.check("every_pair_is_direct", || every_pair(&made));
    let [a, b] = [0, 1].map(|at| made.nodes.get(at).context("two nodes"));
    let (a, b) = (a?, b?);
    report.check("lossy_line", || lossy(lab, a, b));
    report.check("killed_and_restarted", || killed(lab, a, b));
    report.check("paused_and_resumed", || paused(lab, a, b));
    report.check("cut_and_healed", || cut(lab, a, b));
    Ok(())
}

fn every_pair(made: &Installation) -> Result<Finding> {
    let mut pairs = 0;
    for one in &made.nodes {
        for other in made.nodes.iter().filter(|other| other.name() != one.name()) {
            one.wait_answer(other)?;
            one.wait_way_to(other, "the direct way is used", SETTLE, |way| way.kind == "direct")?;
            pairs += 1;
        }
    }
    Ok(Finding::new(true, pairs, "ordered pairs that answer and use no relay"))
}

/// Both the request and its answer can get lost.
fn lossy(lab: &Lab, a: &Node, b: &Node) -> Result<Finding> {
    lab.lossy(a.name(), b.name(), 0.2)?;
    let pings = a.ping(b, 100)?;
    lab.heal(a.name(), Some(b.name()))?;
    let clean = a.ping(b, 40)?;
    let value = json!({ "lost": pings.loss(), "lost_afterwards": clean.loss() });
    // 36 % of 100 within five deviations.
    ensure!((0.12..=0.60).contains(&pings.loss()), "{value}");
    ensure!(clean.lost() <= 2, "{value}");
    Ok(Finding::new(true, value, "20 % of the frames each way; none afterwards"))
}

/// Traffic needs no agent; the one that starts again takes the data plane over.
fn killed(lab: &Lab, a: &Node, b: &Node) -> Result<Finding> {
    let agent = a.agent(lab)?;
    let address = b.overlay_address(a)?;
    agent.kill()?;
    let without = crate::fabric::Pings::of_host(a, &address, 20)?;
    agent.restart()?;
    a.wait_healthy()?;
    ensure!(without.lost() <= 1, "{} of {} pings were lost without the agent", without.lost(), without.sent);
    Ok(Finding::new(true, without.lost(), "pings lost while the agent was dead"))
}

/// Who has no time answers nothing.
fn paused(lab: &Lab, a: &Node, b: &Node) -> Result<Finding> {
    let plane = b.dataplane(lab)?;
    plane.signal(Signal::STOP);
    let stopped = wait_until(SETTLE, "the data plane is stopped", || Ok(plane.is_paused().then_some(())));
    let deaf = stopped.and_then(|()| a.ping(b, 5));
    plane.signal(Signal::CONT);
    let deaf = deaf?;
    let again = a.wait_answer(b)?;
    ensure!(deaf.answered.is_empty(), "a stopped data plane answered");
    b.wait_healthy()?;
    Ok(Finding::new(true, again.as_millis() as u64, "ms from the data plane's going on to an answer"))
}

/// There is no relay: who is cut is cut, also if only one of them is deaf.
fn cut(lab: &Lab, a: &Node, b: &Node) -> Result<Finding> {
    let mut again = Vec::new();
    for one_way in [false, true] {
        match one_way {
            false => lab.cut(a.name(), Some(b.name()))?,
            true => lab.cut_one_way(b.name(), a.name())?,
        }
        let deaf = a.ping(b, 5)?;
        lab.heal(a.name(), Some(b.name()))?;
        again.push(a.wait_answer(b)?.as_millis() as u64);
        ensure!(deaf.answered.is_empty(), "the cut line carries");
    }
    // Its stream with the control plane and its links are whole: the third node is still heard.
    ensure!(again.iter().all(|took| *took <= AGAIN.as_millis() as u64), "{again:?} ms");
    Ok(Finding::new(true, json!(again), "ms from healing to an answer: both deaf, one deaf"))
}

/// A handshake is tried again after 5 s.
const AGAIN: Duration = Duration::from_secs(20);
