//! What a decision costs: one destination, all that used a relay that was lost, and new costs between all relays.

mod view;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rap_routing::Input;
use rap_types::Reason;
use view::{DESTINATIONS, RELAYS, at, engine, most_used, node, relay, row};

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
    let (most, uses) = most_used(&engine, DESTINATIONS);
    println!("the relay that is lost begins {uses} of {DESTINATIONS} primaries");
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
