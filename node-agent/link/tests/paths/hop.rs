//! What a hop refuses, with which code, and that a refusal changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use rap_contract::PathInstall;
use rap_link::path::{Carries, KnownEnd, PathEvent, PathSlot, PathTerms, Verdict, wireguard_payload};
use rap_link::{Frame, FrameKind};
use rap_types::{ChannelClass, Mono, Reason};
use rap_wire::v1;

use crate::installs::*;
use crate::net::*;

#[test]
fn every_check_has_its_code_and_the_first_one_that_fails_answers() {
    let fresh = || Net::new(&[A, B, 3, RELAY_1, RELAY_2]);
    let of = |from: u8, hop: u8, change: &dyn Fn(&mut PathInstall)| {
        let mut install = install(5);
        change(&mut install);
        answer_of(&mut fresh(), from, hop, &install)
    };
    let at_relay = |change: &dyn Fn(&mut PathInstall)| of(A, RELAY_1, change);
    let next = |install: &mut PathInstall, to: u8| install.next.as_mut().unwrap().node = node(to);
    assert_eq!(at_relay(&|_| {}), None);
    assert_eq!(at_relay(&|i| i.lifetime_s = 601), Some(Reason::PathLifetime));
    assert_eq!(at_relay(&|i| i.lane = v1::LinkLane::A), Some(Reason::PathKind));
    assert_eq!(at_relay(&|i| i.lifetime_s = 9), Some(Reason::PathLifetime));
    let skewed = |seconds: i64| START.wall.0 + seconds * 1000;
    assert_eq!(at_relay(&|i| i.issued_at.0 = skewed(601)), Some(Reason::ClockSkew));
    assert_eq!(at_relay(&|i| i.issued_at.0 = skewed(-601)), Some(Reason::ClockSkew));
    assert_eq!(at_relay(&|i| i.issued_at.0 = skewed(599)), None);
    for looped in [A, RELAY_1] {
        assert_eq!(at_relay(&|i| next(i, looped)), Some(Reason::PathLoop), "next {looped}");
    }
    assert_eq!(at_relay(&|i| next(i, B)), Some(Reason::PathLoop), "the destination is too early");
    assert_eq!(at_relay(&|i| i.destination = node(A)), Some(Reason::PathLoop));
    assert_eq!(at_relay(&|i| i.destination = node(RELAY_1)), Some(Reason::PathLoop));
    assert_eq!(at_relay(&|i| i.position = 4), Some(Reason::PathLoop));
    assert_eq!(at_relay(&|i| i.position = 2), Some(Reason::PathLoop), "the source is at position 0");
    assert_eq!(at_relay(&|i| i.previous = node(3)), Some(Reason::PathLoop));
    assert_eq!(of(3, RELAY_1, &|_| {}), Some(Reason::PathPreviousMismatch));
    assert_eq!(of(A, 3, &|_| {}), Some(Reason::RelayNotAllowed));
    assert_eq!(at_relay(&|i| i.destination = node(77)), Some(Reason::RelayUnknownEnd));
    assert_eq!(
        of(3, RELAY_1, &|i| i.lifetime_s = 601),
        Some(Reason::PathLifetime),
        "before what comes later"
    );
    let destination = |change: &dyn Fn(&mut PathInstall), net: &mut Net| {
        let mut install = last(5);
        change(&mut install);
        answer_of(net, RELAY_1, B, &install)
    };
    assert_eq!(destination(&|_| {}, &mut fresh()), None);
    assert_eq!(destination(&|i| i.length = 3, &mut fresh()), Some(Reason::PathLoop));
    let mut net = fresh();
    net.at(node(B), |core, inputs| core.set_terms(terms(&[RELAY_1], None), inputs.now.mono));
    assert_eq!(destination(&|_| {}, &mut net), Some(Reason::PathDenied));
}

#[test]
fn signatures_of_others_and_of_other_hops_are_refused() {
    let mut net = Net::new(&[A, B, RELAY_1, RELAY_2]);
    let mut asked = |installs: Vec<Vec<u8>>| {
        net.answers.clear();
        net.request(node(A), node(RELAY_1), &requested(installs));
        net.answers.iter().find(|(at, _)| *at == node(RELAY_1)).map(|(_, reason)| *reason)
    };
    let rest = || vec![vec![0; 400]; 2];
    let with = |first: Vec<u8>| [vec![first], rest()].concat();
    assert_eq!(asked(with(signed(&install(1), node(RELAY_1), &key(node(B))))), Some(Reason::PathSignature));
    assert_eq!(asked(with(signed(&install(1), node(RELAY_2), &key(node(A))))), Some(Reason::HeaderAudience));
    assert_eq!(asked(with(vec![0; 400])), Some(Reason::PathSignature));
    let foreign = PathInstall { source: node(3), previous: node(3), ..install(1) };
    assert_eq!(asked(with(signed(&foreign, node(RELAY_1), &key(node(A))))), Some(Reason::PathSignature));
    assert_eq!(
        asked(vec![signed(&install(1), node(RELAY_1), &key(node(A)))]),
        Some(Reason::PathLoop),
        "no rest"
    );
}

#[test]
fn a_relay_of_an_organization_carries_for_it_alone_and_a_draining_one_takes_nothing_new() {
    let known = |organization: Option<u8>| KnownEnd {
        organization: organization.map(crate::net::organization),
        deadline: Mono(u64::MAX),
    };
    let answered = |a: Option<u8>, b: Option<u8>, any: bool, draining: bool| {
        let mut net = Net::new(&[A, B, RELAY_1, RELAY_2]);
        let known = BTreeMap::from([(node(A), known(a)), (node(B), known(b)), (node(RELAY_2), known(None))]);
        let carries = Some(Carries { any_organization: any, draining });
        let terms = PathTerms { organization: Some(organization(9)), carries, known, ..terms(&[], None) };
        net.at(node(RELAY_1), |core, inputs| core.set_terms(terms, inputs.now.mono));
        answer_of(&mut net, A, RELAY_1, &install(1))
    };
    assert_eq!(answered(Some(9), Some(9), false, false), None);
    assert_eq!(answered(Some(9), Some(8), false, false), Some(Reason::RelayOrganization));
    assert_eq!(answered(None, Some(9), false, false), Some(Reason::RelayOrganization));
    assert_eq!(answered(None, None, false, false), Some(Reason::RelayOrganization));
    assert_eq!(answered(Some(7), Some(8), true, false), None);
    assert_eq!(answered(Some(9), Some(9), false, true), Some(Reason::RelayDraining));
    assert_eq!(
        answered(Some(9), Some(8), false, true),
        Some(Reason::RelayOrganization),
        "that is said first"
    );
}

#[test]
fn a_replay_is_stale_while_the_path_lives_and_after_it_until_the_signature_is_too_old() {
    let (a, b) = (node(A), node(B));
    let mut net = Net::new(&[A, B, RELAY_1]);
    net.plan(a, b, &[RELAY_1], None);
    net.want(a, b);
    let (_, _, text) = net.requests[0].clone();
    let replayed = |net: &mut Net| {
        net.answers.clear();
        net.request(a, node(RELAY_1), &text);
        net.answers.first().map(|(_, reason)| *reason)
    };
    assert_eq!(replayed(&mut net), Some(Reason::PathGenerationStale));
    net.at(a, |core, inputs| core.set_plans([], inputs));
    net.run();
    assert_eq!(net.nodes[&node(RELAY_1)].carried(), 0);
    for _ in 0..11 {
        assert_eq!(replayed(&mut net), Some(Reason::PathGenerationStale));
        net.advance(Duration::from_secs(60));
    }
    assert_eq!(replayed(&mut net), Some(Reason::ClockSkew), "forgotten, and too old by then");
}

#[test]
fn a_label_works_from_its_own_neighbour_alone() {
    let (a, b) = (node(A), node(B));
    let mut net = Net::new(&[A, B, 3, RELAY_1]);
    net.plan(a, b, &[RELAY_1], None);
    net.want(a, b);
    let end = net.up(a, PathSlot::Primary).unwrap();
    let (to, label, hop_budget) = net.at(a, |core, inputs| core.send_on(end, inputs.now.mono)).unwrap();
    let data = |hop_budget| Data { label, hop_budget, payload: wireguard_payload(b"x").unwrap(), passed: 0 };
    net.events.clear();
    for foreign in [node(3), b] {
        assert_eq!(net.arrive(foreign, to, data(hop_budget)), Verdict::Refused(Reason::PathLabelUnknown));
    }
    assert!(matches!(net.arrive(a, to, data(hop_budget)), Verdict::Forward { .. }));
    assert_eq!(net.arrive(a, to, data(1)), Verdict::Refused(Reason::PathHopBudget));
    net.run();
    let received = net.events(b).iter().filter(|event| matches!(event, PathEvent::Received { .. })).count();
    assert_eq!(received, 1, "one of four");
}

#[test]
fn faults_about_one_label_are_told_once_in_100_ms() {
    let mut net = Net::new(&[A, RELAY_1]);
    let faults = |net: &mut Net, label| {
        net.passed.clear();
        let data = Data { label, hop_budget: 2, payload: wireguard_payload(b"x").unwrap(), passed: 0 };
        for _ in 0..50 {
            net.arrive(node(A), node(RELAY_1), data.clone());
        }
        net.run();
        net.passed.iter().filter(|way| **way == (node(RELAY_1), node(A))).count()
    };
    assert_eq!(faults(&mut net, 5), 1);
    assert_eq!(faults(&mut net, 6), 1);
    assert_eq!(faults(&mut net, 5), 0);
    net.advance(Duration::from_millis(200));
    assert_eq!(faults(&mut net, 5), 1);
    assert_eq!(net.nodes[&node(RELAY_1)].refused()[&Reason::PathLabelUnknown], 200);
}

#[test]
fn labels_and_path_ids_in_use_are_refused_per_neighbour() {
    let mut net = Net::new(&[A, B, 3, RELAY_1, RELAY_2]);
    assert_eq!(answer_of(&mut net, A, RELAY_1, &install(5)), None);
    let mut again = |change: &dyn Fn(&mut PathInstall)| {
        let mut other = install(6);
        change(&mut other);
        answer_of(&mut net, A, RELAY_1, &other)
    };
    assert_eq!(again(&|i| i.in_label = 51), Some(Reason::PathLabelInUse));
    assert_eq!(again(&|i| i.back_out_label = 52), Some(Reason::PathLabelInUse));
    assert_eq!(again(&|i| i.next.as_mut().unwrap().out_label = 53), Some(Reason::PathLabelInUse));
    assert_eq!(again(&|i| i.next.as_mut().unwrap().back_in_label = 54), Some(Reason::PathLabelInUse));
    assert_eq!(again(&|i| i.path_id = [5; 16]), Some(Reason::PathLabelInUse));
    assert_eq!(again(&|_| {}), None);
    // The same labels with another neighbour before are other labels.
    let other = PathInstall { source: node(3), previous: node(3), ..install(5) };
    let other = PathInstall { next: install(9).next, ..other };
    assert_eq!(answer_of(&mut net, 3, RELAY_1, &other), None);
}

#[test]
fn revoked_and_removed_ends_lose_their_paths_in_one_pass() {
    let (a, b, relay) = (node(A), node(B), node(RELAY_1));
    let two_paths = || {
        let mut net = Net::new(&[A, B, 3, RELAY_1]);
        for source in [a, node(3)] {
            net.plan(source, b, &[RELAY_1], None);
            net.want(source, b);
        }
        net.events.clear();
        assert_eq!(net.nodes[&relay].carried(), 2);
        net
    };
    let mut net = two_paths();
    // It asks no more.
    net.nodes.remove(&a);
    net.at(relay, |core, inputs| core.revoke(&BTreeMap::from([(a, 1)]), inputs.now.mono));
    assert_eq!(net.nodes[&relay].carried(), 1);
    net.run();
    assert!(matches!(net.events(b)[..], [PathEvent::Down { reason: Reason::NodeRevoked, .. }]));
    net.at(relay, |core, inputs| core.revoke(&BTreeMap::from([(node(3), 0)]), inputs.now.mono));
    assert_eq!(net.nodes[&relay].carried(), 1, "an older generation");

    let mut net = two_paths();
    net.at(relay, |core, inputs| core.set_terms(terms(&[A, B], RELAY), inputs.now.mono));
    net.run();
    assert_eq!(net.nodes[&relay].carried(), 1, "3 is unknown now");
    net.at(relay, |core, inputs| core.set_terms(terms(&[A, B], None), inputs.now.mono));
    net.run();
    assert_eq!(net.nodes[&relay].carried(), 0, "no relay any more");
}

#[test]
fn messages_that_are_not_the_neighbours_to_send_change_nothing() {
    let (a, b, relay) = (node(A), node(B), node(RELAY_1));
    let mut net = Net::new(&[A, B, 3, RELAY_1]);
    net.plan(a, b, &[RELAY_1], None);
    net.want(a, b);
    let request = <v1::PathRequest as prost::Message>::decode(&net.requests[0].2[..]).unwrap();
    let envelope = <v1::SignedEnvelope as prost::Message>::decode(&request.installs[0][..]).unwrap();
    let install = <v1::PathInstall as prost::Message>::decode(&envelope.payload[..]).unwrap();
    let withdraw = v1::PathWithdraw { path_id: install.path_id, generation: install.generation };
    let withdraw = prost::Message::encode_to_vec(&withdraw);
    let faults = [install.in_label, install.out_label, install.back_in_label, install.back_out_label]
        .map(|label| prost::Message::encode_to_vec(&v1::PathFault { label, reason: "path.expired".into() }));
    for stranger in [node(3), b] {
        net.at(relay, |core, inputs| core.withdraw(stranger, &withdraw, inputs.now.mono)).unwrap();
    }
    for fault in &faults {
        net.at(relay, |core, inputs| core.fault(node(3), fault, inputs)).unwrap();
    }
    let answer = prost::Message::encode_to_vec(&v1::PathAnswer { request_id: 1, ..Default::default() });
    net.at(relay, |core, inputs| core.answer(node(3), &answer, (0, 0), inputs)).unwrap();
    assert_eq!(net.nodes[&relay].carried(), 1);
    net.nodes.remove(&a);
    net.at(relay, |core, inputs| core.fault(b, &faults[1], inputs)).unwrap();
    net.run();
    assert_eq!(net.nodes[&relay].carried(), 0, "the next node may say that it does not pass");
    assert_eq!(FrameKind::PathFault.code(), 20);
}

#[test]
fn a_class_that_the_path_does_not_carry_is_dropped_and_the_path_goes_on() {
    let (a, b) = (node(A), node(B));
    let mut net = Net::new(&[A, B, RELAY_1]);
    net.plan(a, b, &[RELAY_1], None);
    net.want(a, b);
    let end = net.up(a, PathSlot::Primary).unwrap();
    let (to, label, hop_budget) = net.at(a, |core, inputs| core.send_on(end, inputs.now.mono)).unwrap();
    for class in ChannelClass::ALL.iter().filter(|class| **class != ChannelClass::Vpn) {
        let frame = Frame::labelled(*class, label, hop_budget, vec![1]);
        let verdict = net.at(to, |core, inputs| core.frame(a, label, &frame, inputs.now.mono));
        assert_eq!(verdict, Verdict::Refused(Reason::LinkLane), "{class}");
    }
    net.run();
    assert_eq!(net.nodes[&to].carried(), 1);
}

#[test]
fn a_path_that_was_renewed_with_a_newer_key_outlives_the_older_one() {
    let (a, b, relay) = (node(A), node(B), node(RELAY_1));
    let mut net = Net::new(&[A, B, RELAY_1]);
    net.plan(a, b, &[RELAY_1], None);
    net.want(a, b);
    net.key_generation = 2;
    net.advance(Duration::from_secs(23));
    net.at(relay, |core, inputs| core.revoke(&BTreeMap::from([(a, 1)]), inputs.now.mono));
    assert_eq!(net.nodes[&relay].carried(), 1);
    net.at(relay, |core, inputs| core.revoke(&BTreeMap::from([(a, 2)]), inputs.now.mono));
    assert_eq!(net.nodes[&relay].carried(), 0);
}
