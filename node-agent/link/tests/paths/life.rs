//! The life of a path as its source and its ends see it.

use std::time::Duration;

use bytes::Bytes;
use rap_link::path::{PathEnd, PathEvent, PathSlot};
use rap_types::{NodeId, Reason};

use crate::net::*;

const SECOND: Duration = Duration::from_secs(1);

fn received(end: PathEnd, peer: u8, text: &[u8]) -> PathEvent {
    PathEvent::Received { end, peer: node(peer), datagram: Bytes::copy_from_slice(text) }
}

/// A source and a destination with a primary through relay 100 and a backup through relay 101, both up.
fn linked_by_two_relays() -> (Net, NodeId, NodeId, PathEnd, PathEnd) {
    let (a, b) = (node(1), node(2));
    let mut net = Net::new(&[1, 2, 100, 101]);
    net.plan(a, b, &[100], Some(&[101]));
    net.want(a, b);
    net.advance(SECOND);
    let (primary, backup) = (net.up(a, PathSlot::Primary).unwrap(), net.up(a, PathSlot::Backup).unwrap());
    (net, a, b, primary, backup)
}

#[test]
fn a_path_through_two_relays_carries_both_ways() {
    let (a, b) = (node(1), node(2));
    let mut net = Net::new(&[1, 2, 100, 101]);
    net.plan(a, b, &[100, 101], None);
    net.want(a, b);
    let (here, there) = (net.up(a, PathSlot::Primary).unwrap(), net.up(b, PathSlot::Answering).unwrap());
    let relays = vec![node(100), node(101)];
    assert_eq!(net.events(a), [PathEvent::Up { end: here, peer: b, slot: PathSlot::Primary, relays }]);
    let relays = vec![node(101)];
    assert_eq!(net.events(b), [PathEvent::Up { end: there, peer: a, slot: PathSlot::Answering, relays }]);
    net.passed.clear();
    net.send(a, here, b"there").unwrap();
    net.send(b, there, b"and back").unwrap();
    assert_eq!(net.events(b), [received(there, 1, b"there")]);
    assert_eq!(net.events(a), [received(here, 2, b"and back")]);
    let way = [(1, 100), (100, 101), (101, 2), (2, 101), (101, 100), (100, 1)];
    assert_eq!(net.passed, way.map(|(from, to)| (node(from), node(to))));
    assert_eq!(net.longest, 3);
}

#[test]
fn a_path_without_a_relay_is_the_link() {
    let (a, b) = (node(1), node(2));
    let mut net = Net::new(&[1, 2]);
    net.plan(a, b, &[], None);
    net.want(a, b);
    let here = net.up(a, PathSlot::Primary).unwrap();
    net.events(b);
    net.send(a, here, b"hello").unwrap();
    assert!(
        matches!(&net.events(b)[..], [PathEvent::Received { datagram, .. }] if &datagram[..] == b"hello")
    );
}

#[test]
fn nothing_is_asked_for_before_it_is_wanted_and_nothing_twice() {
    let (a, b) = (node(1), node(2));
    let mut net = Net::new(&[1, 2, 100, 101]);
    assert_eq!(net.at(a, |core, inputs| core.want(b, inputs)), Err(Reason::PathUnknown));
    net.plan(a, b, &[100], Some(&[101]));
    assert!(net.requests.is_empty());
    net.want(a, b);
    net.want(a, b);
    net.advance(SECOND);
    net.want(a, b);
    let asked: Vec<_> = net.requests.iter().filter(|(from, ..)| *from == a).map(|(_, to, _)| *to).collect();
    assert_eq!(asked, [node(100), node(101)]);
    assert!(net.up(a, PathSlot::Primary).is_some() && net.up(a, PathSlot::Backup).is_some());
}

#[test]
fn a_used_path_is_renewed_past_its_lifetime_and_its_backup_with_it() {
    let (mut net, a, b, primary, backup) = linked_by_two_relays();
    net.events.clear();
    for round in 0..20 {
        net.advance(10 * SECOND);
        net.send(a, primary, b"still here").unwrap();
        let arrived = net.events(b);
        assert!(matches!(&arrived[..], [PathEvent::Received { .. }]), "round {round}: {arrived:?}");
    }
    assert!(net.requests.len() >= 2 * 2 * 8, "{} requests", net.requests.len());
    net.send(a, backup, b"by the other").unwrap();
    assert_eq!(net.events(b).len(), 1, "the backup was renewed without a frame of its own");
    assert!(net.events(a).is_empty(), "the ends stayed the same");
}

#[test]
fn an_idle_path_is_withdrawn_from_every_hop() {
    let (a, b) = (node(1), node(2));
    let mut net = Net::new(&[1, 2, 100, 101]);
    net.plan(a, b, &[100, 101], None);
    net.want(a, b);
    let (here, there) = (net.up(a, PathSlot::Primary).unwrap(), net.up(b, PathSlot::Answering).unwrap());
    net.events.clear();
    net.advance(130 * SECOND);
    assert_eq!(net.events(a), [PathEvent::Down { end: here, reason: Reason::PathWithdrawn }]);
    assert_eq!(net.events(b), [PathEvent::Down { end: there, reason: Reason::PathWithdrawn }]);
    assert!(net.nodes.values().all(|core| core.carried() == 0));
    assert_eq!(net.send(a, here, b"late"), Err(Reason::PathUnknown));
    assert!(net.nodes[&a].due().is_none(), "nothing is due at an idle source");
}

#[test]
fn a_dead_relay_ends_its_path_at_once_and_the_backup_carries() {
    let (mut net, a, b, primary, backup) = linked_by_two_relays();
    net.events.clear();
    net.kill(node(100));
    let reason = Reason::PathNextUnreachable;
    let events = net.events(a);
    assert_eq!(events[0], PathEvent::Down { end: primary, reason });
    assert!(
        matches!(events[1..], [PathEvent::Refused { slot: PathSlot::Primary, by_hop: false, .. }]),
        "{events:?}"
    );
    assert!(matches!(net.events(b)[..], [PathEvent::Down { reason: Reason::PathNextUnreachable, .. }]));
    net.send(a, backup, b"by the other").unwrap();
    assert!(matches!(&net.events(b)[..], [PathEvent::Received { .. }]));
}

#[test]
fn a_cut_between_two_relays_is_known_at_both_ends() {
    let (a, b) = (node(1), node(2));
    let mut net = Net::new(&[1, 2, 100, 101, 102]);
    net.plan(a, b, &[100, 101, 102], None);
    net.want(a, b);
    let (here, there) = (net.up(a, PathSlot::Primary).unwrap(), net.up(b, PathSlot::Answering).unwrap());
    net.events.clear();
    net.cut(node(101), node(102));
    let down = |end| PathEvent::Down { end, reason: Reason::PathNextUnreachable };
    assert_eq!(net.events(a)[0], down(here));
    assert_eq!(net.events(b), [down(there)]);
    assert!(net.nodes.values().all(|core| core.carried() == 0));
    // The link is back: the source is not told, and finds it by its own attempts.
    net.links.extend([(node(101), node(102)), (node(102), node(101))]);
    net.advance(5 * SECOND);
    assert!(net.up(a, PathSlot::Primary).is_some());
}

#[test]
fn a_link_that_comes_back_is_used_at_once() {
    let (a, b) = (node(1), node(2));
    let mut net = Net::new(&[1, 2, 100]);
    net.plan(a, b, &[100], None);
    net.want(a, b);
    net.cut(a, node(100));
    net.advance(25 * SECOND);
    assert!(net.up(a, PathSlot::Primary).is_none());
    net.links.extend([(a, node(100)), (node(100), a)]);
    net.at(a, |core, inputs| core.link_up(node(100), inputs));
    net.run();
    assert!(net.up(a, PathSlot::Primary).is_some());
}

#[test]
fn a_new_plan_is_up_before_the_old_path_goes() {
    let (a, b) = (node(1), node(2));
    let mut net = Net::new(&[1, 2, 100, 101]);
    net.plan(a, b, &[100], None);
    net.want(a, b);
    let old = net.up(a, PathSlot::Primary).unwrap();
    net.events.clear();
    net.plan(a, b, &[101], None);
    let events = net.events(a);
    let [PathEvent::Up { end: new, relays, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(new.number() > old.number(), "a number is not used again");
    let ends = net.nodes[&a].ends();
    assert!(matches!(&ends[..], [view] if view.end == *new && view.peer == b), "{ends:?}");
    assert_eq!(net.nodes[&b].ends().len(), 2, "the destination has both until the old one is withdrawn");
    assert_eq!(relays[..], [node(101)]);
    net.events(b);
    net.send(a, old, b"under way").unwrap();
    net.send(a, *new, b"first").unwrap();
    assert_eq!(net.events(b).len(), 2, "both carry");
    net.advance(3 * SECOND);
    assert_eq!(net.events(a), [PathEvent::Down { end: old, reason: Reason::PathReplaced }]);
    assert_eq!(net.nodes[&node(100)].carried(), 0);
    net.at(a, |core, inputs| core.set_plans([], inputs));
    net.run();
    assert_eq!(net.events(a), [PathEvent::Down { end: *new, reason: Reason::PathWithdrawn }]);
    assert!(net.nodes.values().all(|core| core.carried() == 0));
}

#[test]
fn a_plan_that_fails_leaves_the_old_path_in_use() {
    let (a, b) = (node(1), node(2));
    let mut net = Net::new(&[1, 2, 3, 100]);
    net.plan(a, b, &[100], None);
    net.want(a, b);
    let old = net.up(a, PathSlot::Primary).unwrap();
    net.plan(a, b, &[3], None);
    assert_eq!(net.answers.last(), Some(&(node(3), Reason::RelayNotAllowed)));
    for _ in 0..10 {
        net.advance(10 * SECOND);
        net.send(a, old, b"still").unwrap();
    }
    assert_eq!(net.up(a, PathSlot::Primary), Some(old));
}

#[test]
fn a_hop_that_forgot_the_path_gets_it_again_under_the_same_end() {
    let (a, b) = (node(1), node(2));
    let mut net = Net::new(&[1, 2, 100]);
    net.plan(a, b, &[100], None);
    net.want(a, b);
    let here = net.up(a, PathSlot::Primary).unwrap();
    // It restarted faster than a link notices, and knows no labels.
    let mut fresh = rap_link::path::Paths::new(node(100), Default::default(), net.now.mono);
    fresh.set_terms(terms(&[1, 2, 100], RELAY), net.now.mono);
    net.nodes.insert(node(100), fresh);
    net.events.clear();
    net.send(a, here, b"lost").unwrap();
    let events = net.events(a);
    assert_eq!(events[0], PathEvent::Down { end: here, reason: Reason::PathLabelUnknown });
    let [PathEvent::Up { end, .. }] = events[1..] else { panic!("{events:?}") };
    net.events(b);
    net.send(a, end, b"again").unwrap();
    assert!(matches!(net.events(b)[..], [PathEvent::Received { .. }]));
}

#[test]
fn a_source_that_forgot_its_generation_is_lifted_and_not_without_end() {
    let (a, b) = (node(1), node(2));
    let mut net = Net::new(&[1, 2, 100]);
    net.at(a, |core, inputs| {
        core.set_terms(
            rap_link::path::PathTerms { instance: 900, ..terms(&[1, 2, 100], None) },
            inputs.now.mono,
        );
    });
    net.plan(a, b, &[100], None);
    net.want(a, b);
    assert!(net.up(a, PathSlot::Primary).is_some());
    // A start of its data plane that was not counted.
    let restart = |net: &mut Net, instance| {
        let mut fresh = rap_link::path::Paths::new(a, Default::default(), net.now.mono);
        fresh.set_terms(rap_link::path::PathTerms { instance, ..terms(&[1, 2, 100], None) }, net.now.mono);
        net.nodes.insert(a, fresh);
        net.events.clear();
        net.answers.clear();
        net.plan(a, b, &[100], None);
        net.want(a, b);
    };
    restart(&mut net, 3);
    assert_eq!(net.answers, [(node(100), Reason::PathGenerationStale)]);
    assert!(net.up(a, PathSlot::Primary).is_some(), "lifted by 897");
    net.at(a, |core, inputs| {
        core.set_terms(
            rap_link::path::PathTerms { instance: 5000, ..terms(&[1, 2, 100], None) },
            inputs.now.mono,
        );
        core.set_plans([], inputs);
    });
    net.run();
    net.plan(a, b, &[100], None);
    net.want(a, b);
    restart(&mut net, 3);
    assert!(net.up(a, PathSlot::Primary).is_none(), "4,997 is more than 1,000");
    let refused = net.events(a);
    let stale =
        |event: &PathEvent| matches!(event, PathEvent::Refused { reason: Reason::PathGenerationStale, .. });
    assert!(!refused.is_empty() && refused.iter().all(stale), "{refused:?}");
}

#[test]
fn plans_that_make_no_sense_are_left_out() {
    let (a, b) = (node(1), node(2));
    let mut net = Net::new(&[1, 2, 100, 101, 102, 103]);
    let plan = |primary: &[u8]| rap_link::path::PathPlan {
        destination: b,
        primary: primary.iter().copied().map(node).collect(),
        backup: None,
    };
    for senseless in [&[1][..], &[2], &[100, 100], &[100, 101, 102, 103]] {
        assert_eq!(net.at(a, |core, inputs| core.set_plans([plan(senseless)], inputs)), 1, "{senseless:?}");
    }
    assert_eq!(net.at(a, |core, inputs| core.want(b, inputs)), Err(Reason::PathUnknown));
}

#[test]
fn past_the_deadline_of_the_tables_nothing_is_asked_for_in_a_hurry_and_nothing_is_taken() {
    let (a, b) = (node(1), node(2));
    let mut net = Net::new(&[1, 2, 100]);
    net.plan(a, b, &[100], None);
    net.want(a, b);
    let here = net.up(a, PathSlot::Primary).unwrap();
    net.events.clear();
    let over =
        rap_link::path::PathTerms { deadline: net.now.mono.plus(5 * SECOND), ..terms(&[1, 2, 100], None) };
    let relay = rap_link::path::PathTerms { carries: RELAY, ..over.clone() };
    net.at(node(100), |core, inputs| core.set_terms(relay, inputs.now.mono));
    net.advance(6 * SECOND);
    assert_eq!(net.nodes[&node(100)].carried(), 0, "ended with the table of the relay");
    net.send(a, here, b"too late").unwrap();
    assert_eq!(net.answers.last(), Some(&(node(100), Reason::PathDenied)));
    net.at(a, |core, inputs| core.set_terms(over, inputs.now.mono));
    net.requests.clear();
    net.advance(20 * SECOND);
    assert!(net.requests.is_empty(), "the own table is over too");
    let refused = net.events(a).iter().filter(|event| matches!(event, PathEvent::Refused { .. })).count();
    assert!((2..=12).contains(&refused), "{refused} attempts");
}

#[test]
fn a_relay_that_loses_its_next_hop_during_an_install_says_so_at_once() {
    let (a, b) = (node(1), node(2));
    let mut net = Net::new(&[1, 2, 100]);
    net.plan(a, b, &[100], None);
    // The destination is silent, and then gone.
    net.nodes.remove(&b);
    net.want(a, b);
    assert_eq!(net.nodes[&node(100)].carried(), 1, "pending");
    assert!(net.answers.is_empty());
    net.kill(b);
    assert_eq!(net.answers, [(node(100), Reason::PathNextUnreachable)]);
    assert_eq!(net.nodes[&node(100)].carried(), 0);
    let (slot, relays, reason) = (PathSlot::Primary, vec![node(100)], Reason::PathNextUnreachable);
    let refused = PathEvent::Refused { peer: b, slot, relays, by_hop: true, passed: Some(0), reason };
    assert_eq!(net.events(a), [refused]);
}
