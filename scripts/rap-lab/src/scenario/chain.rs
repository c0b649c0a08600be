//! Two nodes with three relays between them, one step after the other: no host hears further than the next step. Each step has a
//! spare relay, so that any one of those in use may die.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use super::Scenario;
use crate::check::{Finding, Report};
use crate::command::Invocation;
use crate::fabric::{CALL, Installation, Node, Pace, SETTLE, Sequence, Stream, Way, under_traffic};
use crate::lab::Lab;
use crate::mode::Mode;
use crate::topology::Topology;
use crate::wait::{rest, wait_until};

/// See the module.
pub const CHAIN: Scenario = Scenario {
    name: "chain",
    shows: "two nodes talk through three relays in a row, and go on when any one of these dies",
    needs_programs: true,
    run,
};

fn run(lab: &Lab, report: &mut Report) -> Result<()> {
    ensure!(lab.mode() == Mode::Namespaces, "cuts need network namespaces, and those need root");
    let made = Installation::make(lab, &Topology::chain(), ("chain", Pace::default()), |_| String::new())?;
    let [a, b] = [0, 1].map(|at| made.nodes.get(at).context("two nodes"));
    let (a, b) = (a?, b?);
    report.check("nobody_hears_further_than_a_step", || steps(&made));
    report.check("ping_through_three_relays", || ping(a, b));
    report.check("streams_through_three_relays", || streams(lab, &made, a, b));
    for (step, place) in ["first", "second", "third"].into_iter().enumerate() {
        report.check(&format!("{place}_relay_killed"), || killed(lab, &made, (a, b), step));
    }
    Ok(())
}

/// The relays of one step.
const STEPS: [[&str; 2]; 3] = [["r1", "s1"], ["r2", "s2"], ["r3", "s3"]];

/// Pings of hosts to each other's own addresses, without the overlay.
fn steps(made: &Installation) -> Result<Finding> {
    let (mut heard, mut deaf) = (0, 0);
    let graph = Topology::chain().graph;
    let all: Vec<&Node> = made.all().collect();
    for (at, one) in all.iter().enumerate() {
        for other in &all[at + 1..] {
            let line = format!("ping -n -c 1 -W 0.3 {}", other.host().address());
            let answered = one.host().run(&Invocation::typed(&line)?, CALL)?.code == Some(0);
            let linked = graph.linked(one.name(), other.name());
            ensure!(answered == linked, "{} and {}: heard {answered}", one.name(), other.name());
            *if linked { &mut heard } else { &mut deaf } += 1;
        }
    }
    ensure!(heard > 0 && deaf > 0, "{heard} pairs hear each other, {deaf} do not");
    Ok(Finding::new(true, json!({ "heard": heard, "deaf": deaf }), "pairs of hosts, without the overlay"))
}

fn ping(a: &Node, b: &Node) -> Result<Finding> {
    let first = a.wait_answer(b)?;
    let way = through_three(a, b)?;
    let pings = a.ping(b, 20)?;
    ensure!(pings.lost() <= 1, "{} of {} pings were lost", pings.lost(), pings.sent);
    let value = json!({ "first_answer_ms": first.as_millis() as u64, "median_ms": pings.median_ms(), "via": way.via });
    Ok(Finding::new(true, value, "TUN to TUN, one relay of each step"))
}

/// Waits until the way has a relay of each step.
fn through_three(a: &Node, b: &Node) -> Result<Way> {
    a.wait_way_to(b, "the way has a relay of each step", SETTLE, |way| {
        way.via.len() == STEPS.len()
            && way.via.iter().zip(STEPS).all(|(relay, step)| step.contains(&relay.as_str()))
    })
}

/// What arrives is what was sent, and every relay of the way has carried it.
fn streams(lab: &Lab, made: &Installation, a: &Node, b: &Node) -> Result<Finding> {
    a.wait_answer(b)?;
    let way = through_three(a, b)?;
    let carried =
        || -> Result<Vec<u64>> { made.relays.iter().map(|relay| lab.bytes_to(relay.name())).collect() };
    let before = carried()?;
    let (stream, sequence) = (Stream::open(a, b)?, Sequence::open(a, b)?);
    rest(Duration::from_secs(5));
    let (bytes, arrived) = (stream.end()?, sequence.end()?);
    let names = made.relays.iter().map(Node::name);
    let through: Map<String, Value> = names
        .zip(carried()?.into_iter().zip(before))
        .map(|(name, (after, before))| (name.to_owned(), json!(after - before)))
        .collect();
    let value = json!({
        "via": way.via, "bytes": bytes, "relay_bytes": through, "datagrams": arrived.sent, "lost": arrived.lost,
        "reordered": arrived.reordered,
    });
    ensure!(arrived.duplicates == 0 && arrived.lost * 100 <= arrived.sent, "{value}");
    // A path may be left for a better one meanwhile: both relays of a step together have the bytes.
    for step in STEPS {
        let passed: u64 = step.iter().filter_map(|name| through.get(*name)?.as_u64()).sum();
        ensure!(passed >= bytes, "{step:?} have carried {passed} bytes: {value}");
    }
    Ok(Finding::new(true, value, "equal SHA-256; the counters of each step have the bytes"))
}

/// Waits until a second path without a relay of the one in use is planned, and until it had time to be installed.
fn with_second_path(a: &Node, b: &Node) -> Result<Way> {
    let last = RefCell::new(None);
    let way = wait_until(SETTLE * 2, "a second path is planned beside the one in use", || {
        a.ping(b, 1)?;
        let (way, planned) = (through_three(a, b)?, a.planned_to(b)?);
        let apart = planned.backup.iter().all(|relay| !planned.primary.contains(relay));
        let used = way.via == planned.primary || way.via == planned.backup;
        let both = used && apart && planned.backup.len() == STEPS.len();
        last.replace(Some(planned));
        Ok(both.then_some(way))
    })
    .with_context(|| format!("last plan: {:?}", last.borrow()))?;
    rest(Duration::from_secs(3));
    Ok(way)
}

/// The relay of one step dies under running traffic.
fn killed(lab: &Lab, made: &Installation, (a, b): (&Node, &Node), step: usize) -> Result<Finding> {
    let way = with_second_path(a, b)?;
    let relay = made.relay(&way.via[step])?;
    let after = RefCell::new(Way::default());
    let noticed = under_traffic(
        [a, b],
        || relay.kill_all(lab),
        || {
            let moved =
                |way: &Way| way.via.len() == STEPS.len() && way.via.iter().all(|at| at != relay.name());
            after.replace(a.wait_way_to(b, "the way has other relays", SETTLE, moved)?);
            Ok(())
        },
        || {
            relay.run()?;
            relay.wait_healthy().map(drop)
        },
    )?;
    noticed.within(KILLED)?;
    let value = json!({ "killed": relay.name(), "from": way.via, "to": after.into_inner().via, "noticed": noticed.value() });
    Ok(Finding::new(true, value, "same sockets, equal SHA-256, no datagram twice; at most 1 s of silence"))
}

const KILLED: Duration = Duration::from_secs(1);
