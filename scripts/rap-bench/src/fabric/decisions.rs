//! What a decision of the engine costs, without sockets: one destination, a lost relay, new costs between relays.

use rap_routing::Input;
use rap_types::Reason;

use super::findings::Findings;
use super::rows::wants;
use crate::measure::Stopwatch;
use crate::settings::Settings;

/// The fixture of the engine's own criterion bench.
#[path = "../../../../node-agent/routing/benches/view/mod.rs"]
mod view;

use view::{DESTINATIONS, RELAYS, at, engine, most_used, node, relay, row};

/// Measures what is wanted.
pub(super) fn measure(settings: &Settings, findings: &mut Findings) {
    let times = if settings.quick { 5_000 } else { 50_000 };
    if wants(settings, "decision") {
        let runs = one(times);
        let note = "64 relays, 20 links, 5 attachments, warm tables; primary and backup of one destination, with the input";
        findings.add("decision", runs, note);
    }
    if wants(settings, "relay_loss") {
        let engine = engine(DESTINATIONS);
        let (most, uses) = most_used(&engine, DESTINATIONS);
        let loss = |_| {
            let mut engine = engine.clone();
            engine.handle(Input::LinkDown(relay(most)), at(2));
            let watch = Stopwatch::start();
            std::hint::black_box(engine.decide(at(2)));
            watch.elapsed_ms()
        };
        let runs = (0..settings.rounds * 3).map(loss).collect();
        findings.add(
            "relay_loss",
            runs,
            &format!("it began {uses} of {DESTINATIONS} primaries, and each is decided anew"),
        );
    }
    if wants(settings, "table") {
        findings.add(
            "table",
            tables(settings.rounds * 5),
            "three times the engine's one lane: all costs and the table",
        );
    }
}

fn one(times: u16) -> Vec<f64> {
    let mut engine = engine(100);
    engine.decide(at(2));
    let decide = |number| {
        // A path that was never used: the destination is due, and no cost changed.
        let input = Input::PathFailed(node(number % 100), vec![relay(63)], Reason::PathTimeout);
        let watch = Stopwatch::start();
        engine.handle(input, at(2));
        std::hint::black_box(engine.decide(at(2)));
        watch.elapsed_ms() * 1e3
    };
    (0..times).map(decide).collect()
}

fn tables(rounds: u32) -> Vec<f64> {
    let mut engine = engine(1);
    let table = |round: u32| {
        let now = at(10 + u64::from(round));
        let rows: Vec<Input> = (0..RELAYS).map(|number| row(number, round + 1)).collect();
        let failed = Input::PathFailed(node(0), vec![relay(63)], Reason::PathTimeout);
        let watch = Stopwatch::start();
        for row in rows {
            engine.handle(row, now);
        }
        engine.handle(failed, now);
        std::hint::black_box(engine.decide(now));
        watch.elapsed_ms() * 3.0
    };
    (0..rounds).map(table).collect()
}
