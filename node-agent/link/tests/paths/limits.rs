//! Limits of a hop: who goes when there are too many, and who does not notice.

use std::collections::BTreeMap;
use std::time::Duration;

use rap_contract::PathInstall;
use rap_link::Frame;
use rap_link::path::{PathEvent, PathLimits, PathSlot, Verdict, request_payload};
use rap_types::{ChannelClass, Reason};

use crate::installs::*;
use crate::net::*;

#[test]
fn at_its_limit_a_source_loses_its_longest_idle_path_and_others_lose_none() {
    let limits = PathLimits { paths_per_source: 3, paths: 5, ..PathLimits::default() };
    let mut net = Net::with_limits(&[A, B, 3, 4, RELAY_1, RELAY_2], limits);
    let of = |source: u8, generation: u64| {
        let mut install = PathInstall { source: node(source), previous: node(source), ..install(generation) };
        install.next.as_mut().unwrap().node = node(RELAY_2);
        install
    };
    for generation in 1..=3 {
        assert_eq!(answer_of(&mut net, A, RELAY_1, &of(A, generation)), None);
        net.now = net.now.plus(Duration::from_millis(1));
    }
    for generation in [11, 12] {
        assert_eq!(answer_of(&mut net, 3, RELAY_1, &of(3, generation)), None);
    }
    assert_eq!(net.nodes[&node(RELAY_1)].carried(), 5);
    assert_eq!(answer_of(&mut net, A, RELAY_1, &of(A, 4)), None);
    assert_eq!(net.nodes[&node(RELAY_1)].carried(), 5, "its own oldest went");
    assert_eq!(
        answer_of(&mut net, 4, RELAY_1, &of(4, 21)),
        Some(Reason::PathCapacity),
        "it has none to lose"
    );
    assert_eq!(answer_of(&mut net, A, RELAY_1, &of(A, 1)), Some(Reason::PathGenerationStale));
}

#[test]
fn a_path_with_a_rate_sends_no_more_and_goes_on() {
    let (b, relay) = (node(B), node(RELAY_1));
    let mut net = Net::new(&[A, B, RELAY_1, RELAY_2]);
    let limited = PathInstall { rate_kbit: 800, ..last(5) };
    let free = PathInstall { destination: b, ..last(6) };
    assert_eq!(answer_of(&mut net, RELAY_1, B, &limited), None);
    assert_eq!(answer_of(&mut net, RELAY_1, B, &free), None);
    // Frames of 1,000 bytes on the wire.
    let passed = |net: &mut Net, label, count: usize| {
        let frame = Frame::labelled(ChannelClass::Vpn, label, 1, vec![0; 980]);
        let arrive =
            |net: &mut Net| net.at(b, |core, inputs| core.frame(relay, label, &frame, inputs.now.mono));
        (0..count).filter(|_| matches!(arrive(net), Verdict::Deliver { .. })).count()
    };
    assert_eq!(passed(&mut net, 51, 200), 65, "a burst of 64 KiB");
    assert_eq!(passed(&mut net, 61, 200), 200, "another path has no limit");
    net.now = net.now.plus(Duration::from_millis(100));
    assert_eq!(passed(&mut net, 51, 200), 10, "100,000 bytes per second");
    net.now = net.now.plus(Duration::from_secs(5));
    assert_eq!(passed(&mut net, 51, 200), 65, "what was not used is not kept");
    assert_eq!(net.nodes[&b].refused()[&Reason::PathRate], 135 + 190 + 135);
    assert_eq!(net.nodes[&b].carried(), 2);
    let faster = PathInstall { rate_kbit: 0, ..limited };
    assert_eq!(
        answer_of(&mut net, RELAY_1, B, &faster),
        Some(Reason::PathGenerationStale),
        "no renewal lifts it"
    );
}

#[test]
fn a_flood_of_requests_from_one_peer_is_refused_and_nobody_else_notices() {
    let (b, flooder) = (node(B), node(3));
    let mut net = Net::new(&[A, B, 3, RELAY_1, RELAY_2]);
    let mut refused = BTreeMap::<Reason, u64>::new();
    for count in 0..100_000_u64 {
        let generation = count % 5000 + 1;
        // Some of the first are signed as they should be.
        let text = if count % 2 == 0 || count > 2000 {
            request_payload(generation, &leaf(flooder), vec![vec![0; 300]; 3])
        } else {
            let install = PathInstall { source: flooder, previous: flooder, ..install(generation) };
            request(&install, node(RELAY_1))
        };
        net.answers.clear();
        net.request(flooder, node(RELAY_1), &text);
        for (_, reason) in net.answers.drain(..) {
            *refused.entry(reason).or_default() += 1;
        }
    }
    assert!(net.verified.get() <= 2 * 500, "{} signatures were verified", net.verified.get());
    assert!(refused[&Reason::PathRate] > 90_000, "{refused:?}");
    assert!(net.nodes[&node(RELAY_1)].carried() <= 512);
    net.plan(node(A), b, &[RELAY_1], None);
    net.want(node(A), b);
    let end = net.up(node(A), PathSlot::Primary).unwrap();
    net.events(b);
    net.send(node(A), end, b"unhindered").unwrap();
    assert!(matches!(net.events(b)[..], [PathEvent::Received { .. }]));
}
