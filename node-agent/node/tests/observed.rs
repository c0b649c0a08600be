//! What the data plane observes reaches the control plane in reports.

#[path = "../../trust/tests/support/mod.rs"]
mod support;

use std::time::Duration;

use rap_node::{ContactFacts, Input, LinkCertificate, Node, NodeSettings, Output, PlaneFacts};
use rap_trust::{KeptAudit, StoredBreakGlass};
use rap_types::HeadOrder;
use rap_wire::v1;
use support::{ISSUED, World, at, peer};
use v1::{control_message, node_message};
use zeroize::Zeroizing;

/// A node with a data plane, version 1 with two peers, and a stream that asked for reports every 60 s.
fn reporting(world: &World) -> Node {
    let settings = NodeSettings {
        pinned: world.pinned(),
        floors: world.floors(),
        grants: (world.break_glass_pins(), StoredBreakGlass::default()),
        wireguard_private_key: Zeroizing::new([55; 32]),
        contact: ContactFacts::default(),
        audit: KeptAudit::default(),
        remembered: rap_types::Wall(0),
        loopback: rap_types::sense::Loopback::Allowed,
        path_terms: rap_node::PathTerms { lifetime_s: 40, attachments_max: 7, ..Default::default() },
    };
    let leaf = LinkCertificate {
        certificate: b"leaf".to_vec(),
        private_key: Zeroizing::new(b"leaf key".to_vec()),
        not_after: ISSUED.plus(Duration::from_secs(86_400)),
        authority: Vec::new(),
    };
    let mut node = Node::start(settings, &[], Some(leaf), at(0));
    feed(&mut node, Input::DataplaneUp(PlaneFacts::default()), 1);
    let published = world.publish(HeadOrder::new(1, 1, 0), &world.contents(2), ISSUED);
    feed(&mut node, control(control_message::Body::Update(published.full())), 1);
    open_stream(&mut node, 1);
    node
}

fn control(body: control_message::Body) -> Input {
    Input::Control(Box::new(v1::ControlMessage { body: Some(body) }))
}

/// Opens a stream; the reports that it begins with.
fn open_stream(node: &mut Node, seconds: u64) -> Vec<v1::NodeReport> {
    feed(node, Input::StreamOpened, seconds);
    let hello = v1::ControlHello {
        protocol: 1,
        server_time_ms: ISSUED.0,
        report_interval_ms: 60_000,
        ..Default::default()
    };
    feed(node, control(control_message::Body::Hello(hello)), seconds)
}

/// The reports that follow from an input.
fn feed(node: &mut Node, input: Input, seconds: u64) -> Vec<v1::NodeReport> {
    node.handle(input, at(seconds));
    let mut reports = Vec::new();
    while let Some(output) = node.poll_output() {
        match output {
            Output::Persist(id, _) => node.handle(Input::Persisted(id), at(seconds)),
            Output::Send(message) => {
                if let Some(node_message::Body::Report(report)) = message.body {
                    reports.push(report);
                }
            }
            _ => {}
        }
    }
    reports
}

fn link(index: u8, state: &str, lane: v1::LinkLane, rtt_median_us: u32) -> Input {
    Input::LinkChanged(Box::new(v1::LinkEvent {
        node_id: peer(index).node_id,
        state: state.into(),
        reason: String::new(),
        lane: lane as i32,
        measured: Some(v1::LinkMeasurement { rtt_median_us, loss_ppm: 20_000, samples: 15 }),
    }))
}

#[test]
fn a_link_that_changes_is_reported_within_half_a_second_and_a_measurement_with_the_next_report() {
    let world = World::default();
    let mut node = reporting(&world);
    assert_eq!(feed(&mut node, link(1, "established", v1::LinkLane::A, 900), 2), [], "not at once");
    feed(&mut node, link(1, "established", v1::LinkLane::B, 950), 2);
    feed(&mut node, link(9, "established", v1::LinkLane::A, 1), 2);
    assert_eq!(node.poll_timeout(at(2)), Some(at(2).mono.plus(Duration::from_millis(500))));
    let reports = feed(&mut node, Input::TimedOut, 3);
    let links: Vec<(u32, i32)> = reports[0].links.iter().map(|link| (link.rtt_us, link.lane)).collect();
    assert_eq!(links, [(900, 1), (950, 2)], "both lanes of the peer, and no stranger");
    assert_eq!((reports[0].links[0].loss_ppm, reports[0].links[0].samples), (20_000, 15));
    feed(&mut node, link(1, "established", v1::LinkLane::A, 400), 4);
    assert_eq!(node.poll_timeout(at(4)), Some(at(63).mono), "a measurement does not hurry");
    let reports = feed(&mut node, Input::TimedOut, 63);
    assert_eq!(reports[0].links.len(), 1);
    assert_eq!(reports[0].links[0].rtt_us, 400);
    // Another stream hears everything again, and a data plane that is gone takes its links with it.
    feed(&mut node, Input::StreamClosed, 64);
    assert_eq!(open_stream(&mut node, 65)[0].links.len(), 2);
    feed(&mut node, Input::DataplaneDown, 66);
    feed(&mut node, Input::StreamClosed, 66);
    let report = open_stream(&mut node, 67).remove(0);
    assert_eq!((report.links.len(), report.dataplane_up), (0, 0));
}

#[test]
fn heads_of_peers_are_reported_if_they_verify() {
    let world = World::default();
    let mut node = reporting(&world);
    let newer = world.publish(HeadOrder::new(1, 7, 3), &world.contents(2), ISSUED);
    let mut forged = newer.head.clone();
    *forged.last_mut().unwrap() ^= 1;
    let heard = |index: u8, head: &[u8]| {
        Input::PeerHeadHeard(Box::new(v1::PeerHead { node_id: peer(index).node_id, head: head.to_vec() }))
    };
    feed(&mut node, heard(1, &newer.head), 2);
    feed(&mut node, heard(2, &forged), 2);
    feed(&mut node, heard(9, &newer.head), 2);
    let report = feed(&mut node, Input::TimedOut, 61).remove(0);
    let told = v1::PeerHeadReport { peer: peer(1).node_id, incarnation: 1, version: 7, refresh: 3 };
    assert_eq!(report.peer_heads, [told]);
    assert_eq!(node.snapshot().unwrap().head().order, HeadOrder::new(1, 1, 0), "it is believed by nobody");
}

#[test]
fn the_end_of_the_data_plane_is_reported_once_with_its_fault() {
    let world = World::default();
    let mut node = reporting(&world);
    let exit = v1::DataplaneExit {
        status: "exit status: 1".into(),
        reason: "dataplane.unavailable".into(),
        text: "no device".into(),
        ..Default::default()
    };
    feed(&mut node, Input::DataplaneDown, 5);
    feed(&mut node, Input::DataplaneExited(Box::new(exit.clone())), 5);
    let report = feed(&mut node, Input::TimedOut, 6).remove(0);
    let exit = v1::DataplaneExit { at_ms: at(5).wall.0, ..exit };
    assert_eq!(report.dataplane_exit.as_ref(), Some(&exit));
    assert_eq!(feed(&mut node, Input::TimedOut, 66)[0].dataplane_exit, None);
    assert_eq!(node.observations().exit(), Some(&exit), "status goes on showing it");
}
