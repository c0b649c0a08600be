//! Installs made by hand, and what a hop answers to them.

use rap_contract::{PathInstall, PathNext};
use rap_link::path::request_payload;
use rap_types::{NodeId, Reason};
use rap_wire::v1;

use crate::net::*;

pub const A: u8 = 1;
pub const B: u8 = 2;
pub const RELAY_1: u8 = 100;
pub const RELAY_2: u8 = 101;

/// The install of the first relay of 1 - 100 - 101 - 2.
pub fn install(generation: u64) -> PathInstall {
    PathInstall {
        path_id: [generation as u8; 16],
        lane: v1::LinkLane::C,
        generation,
        source: node(A),
        destination: node(B),
        organization: None,
        position: 1,
        length: 3,
        previous: node(A),
        in_label: generation * 10 + 1,
        back_out_label: generation * 10 + 2,
        next: Some(PathNext {
            node: node(RELAY_2),
            out_label: generation * 10 + 3,
            back_in_label: generation * 10 + 4,
        }),
        rate_kbit: 0,
        lifetime_s: LIFETIME,
        issued_at: START.wall,
    }
}

/// The same as the install of the destination behind one relay.
pub fn last(generation: u64) -> PathInstall {
    PathInstall { position: 2, length: 2, previous: node(RELAY_1), next: None, ..install(generation) }
}

pub fn requested(installs: Vec<Vec<u8>>) -> Vec<u8> {
    request_payload(7, &leaf(node(A)), installs)
}

/// A request with this install for `hop` and as many that nobody here reads behind it.
pub fn request(install: &PathInstall, hop: NodeId) -> Vec<u8> {
    let mut installs = vec![signed(install, hop, &key(install.source))];
    installs.resize(1 + usize::from(install.length.saturating_sub(install.position)), vec![0; 400]);
    request_payload(7, &leaf(install.source), installs)
}

/// What a hop answers to an install that came from `from`; `None` if it took it.
pub fn answer_of(net: &mut Net, from: u8, hop: u8, install: &PathInstall) -> Option<Reason> {
    net.answers.clear();
    let carried = net.nodes[&node(hop)].carried();
    let text = request(install, node(hop));
    // What is behind the hop stays unread: only the hop under test answers.
    let silent = net.nodes.remove(&node(RELAY_2));
    net.request(node(from), node(hop), &text);
    net.nodes.extend(silent.map(|core| (node(RELAY_2), core)));
    let reason = net.answers.iter().find(|(at, _)| *at == node(hop)).map(|(_, reason)| *reason);
    if reason.is_some() {
        assert_eq!(net.nodes[&node(hop)].carried(), carried, "a refusal changes nothing");
    }
    reason
}
