//! What a decision costs: one destination, all that used a relay that was lost, and new costs between all relays.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rap_routing::{Destination, Engine, Input, Own, Probes, RelayFacts, Said};
use rap_types::{Mono, NodeId, Reason};

const RELAYS: u8 = 64;
/// Links that are up.
const ACTIVE: u8 = 20;
const HOMES: u16 = 5;
const DESTINATIONS: u16 = 10_000;

fn relay(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn node(number: u16) -> NodeId {
    let mut id = [200; 16];
    id[14..].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(id)
}

fn at(seconds: u64) -> Mono {
    Mono((1000 + seconds) * 1_000_000_000)
}

/// A number that looks drawn, below `most`.
fn drawn(seed: u32, most: u32) -> u32 {
    (seed.wrapping_mul(2_654_435_761) >> 8) % most
}

fn row(from: u8, salt: u32) -> Input {
    let said = |of: u8| Said {
        rtt_us: 2_000 + drawn(u32::from(from) * 64 + u32::from(of) + salt, 150_000),
        loss_ppm: 0,
    };
    let row = (0..RELAYS).filter(|of| *of != from).map(|of| (relay(of), said(of)));
    Input::RelayRow(relay(from), row.collect())
}

fn engine(destinations: u16) -> Engine {
    let mut engine = Engine::new(1);
    let own = Own { node: relay(255), organization: None, region: String::new() };
    let facts = |number| RelayFacts {
        node: relay(number),
        organization: None,
        region: String::new(),
        draining: false,
        revoked: false,
        kept: false,
    };
    engine.handle(Input::Relays(own, (0..RELAYS).map(facts).collect()), at(0));
    for number in 0..ACTIVE {
        engine.handle(Input::LinkUp(relay(number)), at(0));
        let rtt_us = 5_000 + drawn(u32::from(number), 80_000);
        engine.handle(Input::LinkMeasured(relay(number), Probes { rtt_us, answered: 15, lost: 0 }), at(0));
    }
    for number in 0..RELAYS {
        engine.handle(row(number, 0), at(0));
    }
    for number in 0..destinations {
        let home =
            |at: u16| relay(u8::try_from((number * 7 + at * 13) % u16::from(RELAYS)).unwrap_or_default());
        let homes = (0..HOMES).map(home).collect();
        let facts = Destination { node: node(number), organization: None, region: String::new(), homes };
        engine.handle(Input::Destination(facts), at(0));
    }
    while engine.due().is_some_and(|due| due <= at(3)) {
        engine.decide(at(1));
    }
    engine
}

/// Primary and backup of one destination, with warm tables.
fn one(criterion: &mut Criterion) {
    let mut engine = engine(100);
    engine.decide(at(2));
    let mut number = 0;
    criterion.bench_function("primary and backup of one destination", |bencher| {
        bencher.iter(|| {
            number = (number + 1) % 100;
            // A path that was never used: the destination is due, and no cost changed.
            let path = vec![relay(63)];
            engine.handle(Input::PathFailed(node(number), path, Reason::PathTimeout), at(2));
            engine.decide(at(2))
        });
    });
}

fn relay_loss(criterion: &mut Criterion) {
    let engine = engine(DESTINATIONS);
    let uses = |number| {
        (0..DESTINATIONS)
            .filter(|at| {
                engine.decision(node(*at)).is_some_and(|d| d.primary.first() == Some(&relay(number)))
            })
            .count()
    };
    let most = (0..ACTIVE).max_by_key(|number| uses(*number)).unwrap_or_default();
    println!("the relay that is lost begins {} of {DESTINATIONS} primaries", uses(most));
    criterion.bench_function("a relay is lost, 10,000 destinations", |bencher| {
        let lost = || {
            let mut engine = engine.clone();
            engine.handle(Input::LinkDown(relay(most)), at(2));
            engine
        };
        bencher.iter_batched_ref(lost, |engine| engine.decide(at(2)), BatchSize::LargeInput);
    });
}

/// What relays say of the links between them is new: all costs and the table of one lane. A node has three.
fn table(criterion: &mut Criterion) {
    let mut engine = engine(1);
    let (mut salt, mut second) = (0, 10);
    criterion.bench_function("64 relays, costs and table of one lane", |bencher| {
        bencher.iter(|| {
            (salt, second) = (salt + 1, second + 1);
            for number in 0..RELAYS {
                engine.handle(row(number, salt), at(second));
            }
            engine.handle(Input::PathFailed(node(0), vec![relay(63)], Reason::PathTimeout), at(second));
            engine.decide(at(second))
        });
    });
}

criterion_group!(benches, one, relay_loss, table);
criterion_main!(benches);
