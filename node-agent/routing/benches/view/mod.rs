//! The view of one node: 64 relays, links with 20 of them, and destinations that five relays reach.

use rap_routing::{Destination, Engine, Input, Own, Probes, RelayFacts, Said};
use rap_types::{Mono, NodeId};

pub const RELAYS: u8 = 64;
/// Links that are up.
pub const ACTIVE: u8 = 20;
const HOMES: u16 = 5;
pub const DESTINATIONS: u16 = 10_000;

pub fn relay(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

pub fn node(number: u16) -> NodeId {
    let mut id = [200; 16];
    id[14..].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(id)
}

pub fn at(seconds: u64) -> Mono {
    Mono((1000 + seconds) * 1_000_000_000)
}

/// A number that looks drawn, below `most`.
fn drawn(seed: u32, most: u32) -> u32 {
    (seed.wrapping_mul(2_654_435_761) >> 8) % most
}

pub fn row(from: u8, salt: u32) -> Input {
    let said = |of: u8| Said {
        rtt_us: 2_000 + drawn(u32::from(from) * 64 + u32::from(of) + salt, 150_000),
        loss_ppm: 0,
    };
    let row = (0..RELAYS).filter(|of| *of != from).map(|of| (relay(of), said(of)));
    Input::RelayRow(relay(from), row.collect())
}

pub fn engine(destinations: u16) -> Engine {
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

/// The relay that begins most primaries, and how many.
pub fn most_used(engine: &Engine, destinations: u16) -> (u8, usize) {
    let mut uses = [0; ACTIVE as usize];
    for number in 0..destinations {
        let decision = engine.decision(node(number));
        let first = decision.and_then(|decision| decision.primary.first().copied());
        if let Some(uses) = first.and_then(|first| uses.get_mut(usize::from(first.as_bytes()[0]))) {
            *uses += 1;
        }
    }
    (0..ACTIVE).zip(uses).max_by_key(|(_, uses)| *uses).unwrap_or_default()
}
