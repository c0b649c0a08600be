//! A node with relays and destinations, for tests.

#![allow(dead_code, reason = "each test uses a part")]

use rap_routing::{Decision, Destination, Engine, Input, Own, Probes, RelayFacts, Said};
use rap_types::{Mono, NodeId};

pub const ME: NodeId = NodeId::from_bytes([255; 16]);

pub fn relay(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

pub fn node(number: u16) -> NodeId {
    let mut id = [200; 16];
    id[14..].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(id)
}

pub fn at(seconds: u64) -> Mono {
    millis(seconds * 1000)
}

pub fn millis(millis: u64) -> Mono {
    Mono((1_000_000 + millis) * 1_000_000)
}

pub fn facts(number: u8) -> RelayFacts {
    RelayFacts {
        node: relay(number),
        organization: None,
        region: String::new(),
        draining: false,
        revoked: false,
        kept: true,
    }
}

pub fn own() -> Own {
    Own { node: ME, organization: None, region: String::new() }
}

pub fn relays(engine: &mut Engine, facts: impl IntoIterator<Item = RelayFacts>, now: Mono) {
    engine.handle(Input::Relays(own(), facts.into_iter().collect()), now);
}

pub fn destination(number: u16, homes: &[u8]) -> Destination {
    let homes = homes.iter().map(|home| relay(*home)).collect();
    Destination { node: node(number), organization: None, region: String::new(), homes }
}

pub fn probes(rtt_us: u32) -> Probes {
    Probes { rtt_us, answered: 1, lost: 0 }
}

/// The link with a relay is up and was measured often, so that nothing is assumed any more.
pub fn measured(engine: &mut Engine, number: u8, rtt_us: u32, now: Mono) {
    engine.handle(Input::LinkUp(relay(number)), now);
    for _ in 0..200 {
        engine.handle(Input::LinkMeasured(relay(number), Probes { rtt_us, answered: 100, lost: 0 }), now);
    }
}

pub fn said(one: u8, rows: &[(u8, u32)]) -> Input {
    let row = rows.iter().map(|(other, rtt_us)| (relay(*other), Said { rtt_us: *rtt_us, loss_ppm: 0 }));
    Input::RelayRow(relay(one), row.collect())
}

/// A relay says that its links with these are down.
pub fn said_lost(one: u8, others: &[u8]) -> Input {
    let row = others.iter().map(|other| (relay(*other), Said { rtt_us: 0, loss_ppm: 1_000_000 }));
    Input::RelayRow(relay(one), row.collect())
}

/// What holds for a destination, as numbers of relays.
pub fn paths(engine: &Engine, number: u16) -> (Vec<u8>, Vec<u8>) {
    let Some(Decision { primary, backup, .. }) = engine.decision(node(number)) else {
        return Default::default();
    };
    let numbers = |path: Vec<NodeId>| path.iter().map(|relay| relay.as_bytes()[0]).collect();
    (numbers(primary), numbers(backup))
}
