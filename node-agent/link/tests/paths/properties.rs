//! Random graphs, installs and frames.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use rap_contract::{PathInstall, PathNext};
use rap_link::path::{Verdict, request_payload, wireguard_payload};
use rap_types::{NodeId, Reason};
use rap_wire::v1;

use crate::net::*;

const NODES: [u8; 7] = [1, 2, 3, 100, 101, 102, 103];

fn any_node() -> impl Strategy<Value = NodeId> {
    proptest::sample::select(&NODES[..]).prop_map(node)
}

/// Installs with few labels, so that they meet. Most fit no path.
fn any_install() -> impl Strategy<Value = (NodeId, PathInstall)> {
    let ends = (any_node(), any_node(), any_node(), any_node(), any_node());
    let labels = (1..4_u64, 1..4_u64, 1..4_u64, 1..4_u64);
    (ends, labels, 0..3_u8, 1..5_u8, 1..5_u8, 1..6_u64).prop_map(
        |((hop, source, destination, previous, next), labels, path, position, length, generation)| {
            let next = PathNext { node: next, out_label: labels.0, back_in_label: labels.1 };
            let install = PathInstall {
                path_id: [path; 16],
                lane: v1::LinkLane::C,
                generation,
                source,
                destination,
                organization: None,
                position,
                length,
                previous: if position == 1 { source } else { previous },
                in_label: labels.2,
                back_out_label: labels.3,
                next: (hop != destination).then_some(next),
                rate_kbit: 0,
                lifetime_s: LIFETIME,
                issued_at: START.wall,
            };
            (hop, install)
        },
    )
}

fn any_plan() -> impl Strategy<Value = (u8, u8, Vec<u8>)> {
    let end = || proptest::sample::select(&NODES[..3]);
    let relays = proptest::sample::subsequence(&NODES[3..], 0..=3).prop_shuffle();
    (end(), end(), relays).prop_filter("two ends", |(from, to, _)| from != to)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever hops believe of each other, also if every hop was lied to, no frame passes more than four nodes, and a
    /// frame with a label that its sender does not have under that neighbour goes nowhere.
    #[test]
    fn no_frame_goes_round_and_no_label_is_spliced(
        plans in proptest::collection::vec(any_plan(), 0..6),
        installs in proptest::collection::vec(any_install(), 0..60),
        frames in proptest::collection::vec((any_node(), any_node(), 1..5_u64, 1..5_u8), 0..60),
    ) {
        let mut net = Net::new(&NODES);
        for (from, to, relays) in plans {
            net.plan(node(from), node(to), &relays, None);
            net.want(node(from), node(to));
        }
        let mut taken = BTreeMap::<(NodeId, NodeId, u64), usize>::new();
        for (hop, install) in installs {
            let mut rest = vec![signed(&install, hop, &key(install.source))];
            rest.resize(1 + usize::from(install.length.saturating_sub(install.position)), vec![0; 10]);
            let before = net.nodes[&hop].carried();
            net.request(install.previous, hop, &request_payload(1, &leaf(install.source), rest));
            if install.next.is_none() && net.nodes[&hop].carried() > before {
                *taken.entry((hop, install.previous, install.in_label)).or_default() += 1;
            }
        }
        prop_assert!(taken.values().all(|count| *count == 1), "a label of one neighbour leads to one path: {:?}", taken);
        for (from, to, label, hop_budget) in frames.into_iter().filter(|(from, to, ..)| from != to) {
            let data = Data { label, hop_budget, payload: wireguard_payload(b"x").unwrap(), passed: 0 };
            let verdict = net.arrive(from, to, data);
            if let Verdict::Deliver { .. } = verdict {
                prop_assert!(taken.contains_key(&(to, from, label)), "{from} {to} {label}");
            }
            net.run();
        }
        prop_assert!(net.longest <= 4, "a frame passed {} nodes", net.longest);
    }

    /// Through installs, withdrawals, cuts and time: what was once seen of a stream is a floor.
    #[test]
    fn nothing_at_or_below_a_generation_that_was_seen_is_installed_again(
        steps in proptest::collection::vec((1..40_u64, 0..4_u8, 0..10_u64), 1..60),
    ) {
        let (source, destination) = (node(1), node(2));
        let mut net = Net::new(&[1, 2, 100]);
        let mut highest = 0;
        for (generation, act, seconds) in steps {
            net.now = net.now.plus(Duration::from_millis(1));
            let install = PathInstall {
                path_id: [generation as u8; 16],
                lane: v1::LinkLane::C,
                generation,
                source,
                destination,
                organization: None,
                position: 2,
                length: 2,
                previous: node(100),
                in_label: generation,
                back_out_label: generation,
                next: None,
                rate_kbit: 0,
                lifetime_s: LIFETIME,
                issued_at: net.now.wall,
            };
            let before = net.nodes[&destination].carried();
            net.answers.clear();
            let envelope = signed(&install, destination, &key(source));
            net.request(node(100), destination, &request_payload(1, &leaf(source), vec![envelope]));
            let is_new = net.nodes[&destination].carried() > before;
            prop_assert!(!is_new || generation > highest, "{generation} after {highest}");
            if is_new {
                highest = generation;
            } else if generation > highest {
                prop_assert!(false, "{generation} was refused after {highest}: {:?}", net.answers);
            } else {
                let renewed = net.answers.is_empty();
                let stale = net.answers.first().map(|(_, reason)| *reason) == Some(Reason::PathGenerationStale);
                prop_assert!(renewed || stale);
            }
            match act {
                0 => {
                    let withdraw = v1::PathWithdraw { path_id: [generation as u8; 16].to_vec(), generation };
                    let withdraw = prost::Message::encode_to_vec(&withdraw);
                    let now = net.now.mono;
                    net.at(destination, |core, _| core.withdraw(node(100), &withdraw, now)).unwrap();
                }
                1 => net.cut(destination, node(100)),
                2 => net.advance(Duration::from_secs(seconds)),
                _ => {}
            }
            net.links.extend([(destination, node(100)), (node(100), destination)]);
        }
    }
}
