//! Tests of the delivery.

use super::*;
use std::collections::BTreeMap;

use crate::{ClusterRows, Limits, MapKey, NodeRow, plan};
use rap_types::{ClusterId, InstallationId, Refresh, Wall};

const WINDOW: Duration = Duration::from_secs(10);

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn published(version: u64, refresh: u64, nodes: &[u8]) -> Arc<Published> {
    let rows = ClusterRows {
        installation: InstallationId::from_bytes([1; 16]),
        cluster: ClusterId::from_bytes([2; 16]),
        name: "prod".into(),
        incarnation: Incarnation(1),
        version: Version(version),
        ipv4_pool: "100.96.0.0/16".parse().unwrap(),
        cluster_ca: vec![1],
        next_ca: None,
        degraded_for_ms: 1,
        leaf_lifetime_ms: 10,
        mtu: 1280,
        link_probe_interval_ms: 1000,
        wireguard_keepalive_s: 25,
        nodes: nodes.iter().map(|number| row(*number)).collect(),
        wireguard_key_max_age_ms: 0,
        identity_key_max_age_ms: 0,
        degraded_ends: Vec::new(),
        survive_forever_roles: Vec::new(),
        gone: Vec::new(),
        revocations: Default::default(),
        // Without memory every version is a new generation, so every leaf is a new one.
        leaves: BTreeMap::new(),
        limits: Limits::default(),
        loopback: rap_types::sense::Loopback::Refused,
    };
    let plan = plan(&rows, &MapKey::from_bytes([3; 32])).unwrap();
    let order =
        HeadOrder { incarnation: Incarnation(1), version: Version(version), refresh: Refresh(refresh) };
    Arc::new(Published {
        plan: Arc::new(plan),
        head: Arc::from([0; 4]),
        order,
        previous: None,
        issued_at: Wall(1),
        fresh_until: Wall(2),
    })
}

fn row(number: u8) -> NodeRow {
    NodeRow {
        node: node(number),
        name: format!("n{number}"),
        node_public_key: [number; 32],
        wireguard_public_key: [number; 32],
        organization: None,
        roles: Vec::new(),
        capabilities: Vec::new(),
        draining: false,
        tags: Vec::new(),
        region: String::new(),
        link_endpoints: Vec::new(),
        wireguard_endpoints: Vec::new(),
        host_number: number.into(),
        key_generation: 1,
    }
}

fn next(delivery: &mut Delivery, published: &Arc<Published>, seconds: u64) -> Step {
    delivery.next(published, WINDOW, 0.5, Mono(seconds * 1_000_000_000))
}

fn sent_update(step: Step) -> v1::SnapshotUpdate {
    match step {
        Step::Send(body) => match *body {
            Body::Update(update) => update,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_update_is_in_flight_and_the_next_is_against_what_was_acknowledged() {
    let (one, two, three) = (published(1, 0, &[1]), published(2, 0, &[1, 2]), published(3, 0, &[1, 2, 3]));
    let mut delivery = Delivery::new(node(1), None);
    assert!(sent_update(next(&mut delivery, &one, 0)).full);
    assert_eq!(next(&mut delivery, &two, 0), Step::Idle);
    let another = delivery.acknowledged(Digest::of(&[b"another"]), said(&one));
    assert_eq!(another, Acknowledged::Unasked);
    assert!(delivery.waits(), "an acknowledgement of something else counts for nothing");
    delivery.acknowledged(one.leaf_hash(node(1)).unwrap(), said(&one));
    assert_eq!(delivery.new_peers(), None, "all of them");
    // Version 2 came and went while the node was busy.
    let update = sent_update(next(&mut delivery, &three, 0));
    assert!(!update.full);
    assert_eq!(update.slots_set.len(), 2);
    delivery.acknowledged(three.leaf_hash(node(1)).unwrap(), said(&three));
    let mut new = delivery.new_peers().unwrap();
    new.sort_unstable();
    assert_eq!(new, [node(2), node(3)]);
    sent_update(next(&mut delivery, &published(4, 0, &[1, 3]), 0));
    delivery
        .acknowledged(published(4, 0, &[1, 3]).leaf_hash(node(1)).unwrap(), said(&published(4, 0, &[1, 3])));
    assert_eq!(delivery.new_peers(), Some(Vec::new()), "its leaf changed, and nobody is new");
}

fn said(published: &Published) -> (Incarnation, Version) {
    published.order.durable()
}

#[test]
fn what_a_node_holds_is_what_was_sent_whatever_it_says() {
    let one = published(1, 0, &[1]);
    let (leaf, max) = (one.leaf_hash(node(1)).unwrap(), (Incarnation(u64::MAX), Version(u64::MAX)));
    let mut delivery = Delivery::new(node(1), None);
    assert_eq!(delivery.acknowledged(leaf, said(&one)), Acknowledged::Unasked, "nothing was sent");
    sent_update(next(&mut delivery, &one, 0));
    assert_eq!(delivery.acknowledged(leaf, max), Acknowledged::Holds(one.order));
    for (version, expected) in [
        (max, Acknowledged::Unasked),
        (said(&one), Acknowledged::Holds(one.order)),
        ((Incarnation(0), Version(u64::MAX)), Acknowledged::Known),
    ] {
        assert_eq!(delivery.acknowledged(leaf, version), expected, "{version:?}");
    }
    // An equal leaf under a later head: acknowledged when the node has that head.
    let later =
        Arc::new(Published { order: HeadOrder { version: Version(2), ..one.order }, ..(*one).clone() });
    assert!(matches!(next(&mut delivery, &later, 0), Step::WaitUntil(_)));
    assert_eq!(delivery.acknowledged(leaf, said(&later)), Acknowledged::Unasked, "not sent yet");
    assert!(matches!(next(&mut delivery, &later, 100), Step::Send(_)));
    assert_eq!(delivery.acknowledged(leaf, said(&one)), Acknowledged::Known);
    assert_eq!(delivery.acknowledged(leaf, said(&later)), Acknowledged::Holds(later.order));
}

#[test]
fn a_refused_leaf_waits_for_a_change_and_a_gap_is_filled_once() {
    let (one, two) = (published(1, 0, &[1]), published(2, 0, &[1, 2]));
    let mut delivery = Delivery::new(node(1), None);
    sent_update(next(&mut delivery, &one, 0));
    delivery.acknowledged(one.leaf_hash(node(1)).unwrap(), said(&one));
    assert!(!sent_update(next(&mut delivery, &two, 0)).full);
    delivery.refused(Reason::SnapshotChunkMissing, true, Mono(0));
    assert!(sent_update(next(&mut delivery, &two, 0)).full);
    delivery.refused(Reason::SnapshotChunkMissing, true, Mono(0));
    assert_eq!(next(&mut delivery, &two, 100), Step::Idle);
    let three = published(3, 0, &[1, 3]);
    assert!(matches!(next(&mut delivery, &three, 100), Step::Send(_)));
}

#[test]
fn what_is_refused_for_a_passing_reason_is_sent_again_until_it_is_taken() {
    let one = published(1, 0, &[1]);
    let leaf = one.leaf_hash(node(1)).unwrap();
    // An update: after 2, 4, 8 .. 60 s.
    let mut delivery = Delivery::new(node(1), None);
    let mut at = 0;
    for pause in [2, 4, 8, 16, 32, 60, 60] {
        sent_update(next(&mut delivery, &one, at));
        delivery.refused(Reason::StateNoSpace, false, Mono(at * 1_000_000_000));
        assert!(matches!(next(&mut delivery, &one, at + pause - 1), Step::WaitUntil(_)), "{pause}");
        at += pause;
    }
    // A head, while the authority's record is not on the node's disk yet.
    let mut delivery = Delivery::new(node(1), Some(leaf));
    for now in [0, 2, 6] {
        let step = next(&mut delivery, &one, now);
        assert!(matches!(step, Step::Send(body) if matches!(*body, Body::Head(_))), "{now}");
        delivery.refused(Reason::KeyUnknown, false, Mono(now * 1_000_000_000));
        assert!(matches!(next(&mut delivery, &one, now + 1), Step::WaitUntil(_)), "{now}");
    }
    assert!(matches!(next(&mut delivery, &one, 14), Step::Send(_)));
    assert_eq!(delivery.acknowledged(leaf, said(&one)), Acknowledged::Holds(one.order));
    assert_eq!(next(&mut delivery, &one, 1000), Step::Idle, "taken");
    // What is wrong stays wrong.
    delivery.refused(Reason::SnapshotRollback, false, Mono(0));
    assert_eq!(next(&mut delivery, &one, 1000), Step::Idle);
}

#[test]
fn an_unchanged_leaf_gets_the_newest_head_once_in_its_place_of_the_window() {
    let one = published(1, 0, &[1]);
    let mut delivery = Delivery::new(node(1), one.leaf_hash(node(1)));
    assert!(matches!(next(&mut delivery, &one, 0), Step::Send(body) if matches!(*body, Body::Head(_))));
    assert_eq!(next(&mut delivery, &one, 0), Step::Idle);
    let refreshed = |refresh| {
        Arc::new(Published { order: HeadOrder { refresh: Refresh(refresh), ..one.order }, ..(*one).clone() })
    };
    let due = Mono(25_000_000_000);
    assert_eq!(next(&mut delivery, &refreshed(1), 20), Step::WaitUntil(due));
    assert_eq!(next(&mut delivery, &refreshed(2), 24), Step::WaitUntil(due));
    assert!(matches!(next(&mut delivery, &refreshed(3), 25), Step::Send(_)));
    assert_eq!(next(&mut delivery, &refreshed(3), 25), Step::Idle);
}

#[test]
fn a_node_outside_the_plan_is_gone() {
    let mut delivery = Delivery::new(node(9), None);
    assert_eq!(next(&mut delivery, &published(1, 0, &[1]), 0), Step::Gone);
}
