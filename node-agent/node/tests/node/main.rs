//! The composition: in which order things leave, what a table says, what a stream is told.

mod break_glass;
mod cas;
mod contact;
mod paths;
mod sense;
#[path = "../../../trust/tests/support/mod.rs"]
mod support;

use std::time::Duration;

use rap_contract::{BreakGlassText, sign};
use rap_node::{ContactFacts, Input, LinkCertificate, Node, NodeSettings, Output, PlaneFacts};
use rap_trust::{KeptAudit, StoredBreakGlass};
use rap_types::{HeadOrder, Mono, NodeContact, NodeId, Reason};
use rap_wire::v1;
use support::{DEGRADED_FOR, FRESH_FOR, ISSUED, Published, World, at, peer};
use v1::break_glass_grant::Permit;
use v1::{control_message, node_message};
use zeroize::Zeroizing;

const V1: HeadOrder = HeadOrder::new(1, 1, 0);
const V2: HeadOrder = HeadOrder::new(1, 2, 0);

/// A data plane that knows paths and has applied this table version.
fn plane(applied: u64) -> PlaneFacts {
    PlaneFacts { applied, path_instance: 7, knows_paths: true }
}

fn leaf() -> LinkCertificate {
    let (certificate, private_key) = (b"leaf".to_vec(), Zeroizing::new(b"leaf key".to_vec()));
    let not_after = ISSUED.plus(Duration::from_secs(86_400));
    LinkCertificate { certificate, private_key, not_after, authority: Vec::new() }
}

/// A node that dials loopback addresses and never had contact.
fn settings(world: &World) -> NodeSettings {
    NodeSettings {
        pinned: world.pinned(),
        floors: world.floors(),
        grants: (world.break_glass_pins(), StoredBreakGlass::default()),
        wireguard_private_key: Zeroizing::new([55; 32]),
        contact: ContactFacts::default(),
        audit: KeptAudit::default(),
        remembered: rap_types::Wall(0),
        loopback: rap_types::sense::Loopback::Allowed,
        path_terms: rap_node::PathTerms { lifetime_s: 40, attachments_max: 7, ..Default::default() },
    }
}

fn start(world: &World) -> Node {
    let (agent_version, boot_id) = ("1".into(), "boot".into());
    let contact = ContactFacts { agent_version, boot_id, instance: [5; 16], ..ContactFacts::default() };
    let settings = NodeSettings { contact, ..settings(world) };
    Node::start(settings, &[], Some(leaf()), at(0))
}

fn drain(node: &mut Node, seconds: u64) -> Vec<Output> {
    let mut all = Vec::new();
    while let Some(output) = node.poll_output() {
        if let Output::Persist(id, _) = &output {
            node.handle(Input::Persisted(*id), at(seconds));
        }
        all.push(output);
    }
    all
}

fn feed(node: &mut Node, input: Input, seconds: u64) -> Vec<Output> {
    node.handle(input, at(seconds));
    drain(node, seconds)
}

fn control(body: control_message::Body) -> Input {
    Input::Control(Box::new(v1::ControlMessage { body: Some(body) }))
}

fn update(published: &Published) -> Input {
    control(control_message::Body::Update(published.full()))
}

fn names(outputs: &[Output]) -> Vec<&'static str> {
    let name = |output: &Output| match output {
        Output::Persist(..) => "persist",
        Output::Publish(_) => "publish",
        Output::Ping(_) => "ping",
        Output::Explain(_) => "explain",
        Output::Reconnect { .. } => "reconnect",
        Output::Alarm(_) => "alarm",
        Output::PersistBreakGlass => "persist-grants",
        Output::WayChanged(_) => "way-changed",
        Output::KeepCheckpoint(_) => "keep checkpoint",
        Output::AuditAlarm(_) => "audit alarm",
        Output::Send(message) => match message.body {
            Some(node_message::Body::Hello(_)) => "hello",
            Some(node_message::Body::Ack(_)) => "ack",
            Some(node_message::Body::Nack(_)) => "nack",
            Some(node_message::Body::Report(_)) => "report",
            Some(node_message::Body::Diagnostic(_)) => "diagnostic",
            Some(node_message::Body::Authority(_)) => "authority",
            Some(node_message::Body::BreakGlass(_)) => "break-glass",
            None => "nothing",
        },
    };
    outputs.iter().map(name).collect()
}

fn table(outputs: &[Output]) -> v1::ForwardingTable {
    let table = outputs.iter().rev().find_map(|output| match output {
        Output::Publish(table) => Some(table.message()),
        _ => None,
    });
    table.expect("a table")
}

/// A node with a data plane, an open stream and version 1.
fn running(world: &World) -> Node {
    let mut node = start(world);
    feed(&mut node, Input::DataplaneUp(plane(0)), 1);
    feed(&mut node, Input::StreamOpened, 1);
    feed(&mut node, update(&world.publish(V1, &world.contents(2), ISSUED)), 1);
    node
}

#[test]
fn disk_then_table_then_acknowledgement() {
    let world = World::default();
    let mut node = start(&world);
    assert_eq!(
        names(&feed(&mut node, Input::DataplaneUp(plane(0)), 1)),
        [] as [&str; 0],
        "no table without a snapshot"
    );
    assert_eq!(names(&feed(&mut node, Input::StreamOpened, 1)), ["hello", "authority"]);
    let outputs = feed(&mut node, update(&world.publish(V1, &world.contents(2), ISSUED)), 1);
    assert_eq!(names(&outputs), ["persist", "publish", "ack"]);
    let mut bad = world.publish(V2, &world.contents(2), ISSUED);
    bad.proof.position = 0;
    assert_eq!(names(&feed(&mut node, update(&bad), 2)), ["nack"]);
}

#[test]
fn the_table_says_what_the_snapshot_says_and_nothing_else() {
    let world = World::default();
    let mut node = start(&world);
    feed(&mut node, Input::DataplaneUp(plane(41)), 1);
    let table = table(&feed(&mut node, update(&world.publish(V1, &world.contents(2), ISSUED)), 1));
    assert_eq!(table.version, 42, "above what the data plane has");
    assert_eq!(table.addresses, ["100.96.0.5/16", "fd00::5/48"]);
    assert_eq!((table.mtu, table.probe_interval_ms), (1280, 1000));
    assert_eq!(table.wireguard_private_key, [55; 32]);
    let identity = table.identity.clone().unwrap();
    assert_eq!(identity.cluster_ca, world.cluster_ca, "the CA comes from the snapshot");
    assert_eq!(
        (identity.certificate.as_slice(), identity.private_key.as_slice()),
        (&b"leaf"[..], &b"leaf key"[..])
    );
    assert_eq!(table.peers.len(), 2);
    for (index, row) in (1u8..).zip(&table.peers) {
        let record = peer(index);
        assert_eq!(
            row.allowed_ips,
            [format!("{}/32", record.overlay_ipv4), format!("{}/128", record.overlay_ipv6)]
        );
        assert_eq!(row.wireguard_public_key, record.wireguard_public_key);
        assert_eq!(row.link_endpoints, record.link_endpoints);
        assert_eq!(row.wireguard_endpoints, record.wireguard_endpoints);
        assert_eq!((row.keepalive_s, row.key_generation, row.survive_forever), (25, 1, false));
    }
}

#[test]
fn deadlines_are_on_the_boot_clock() {
    let world = World::default();
    let mut node = start(&world);
    feed(&mut node, Input::DataplaneUp(plane(0)), 1);
    let table = table(&feed(&mut node, update(&world.publish(V1, &world.contents(1), ISSUED)), 1));
    let boot = |seconds: u64| at(seconds).mono.0;
    let degraded_until = boot((FRESH_FOR + DEGRADED_FOR).as_secs());
    assert_eq!(table.deadline_ns, degraded_until);
    assert_eq!(table.peers[0].deadline_ns, 0, "the table's counts");
    assert_eq!(table.identity.unwrap().deadline_ns, boot(86_400));
}

#[test]
fn a_refreshed_head_moves_the_deadline_and_a_passed_one_is_never_none() {
    let world = World::default();
    let contents = world.contents(1);
    let mut node = running(&world);
    let first = node.table().0;
    let later =
        world.publish(HeadOrder::new(1, 1, 1), &world.contents(2), ISSUED.plus(Duration::from_secs(30)));
    let head = control(control_message::Body::Head(later.head_update()));
    let table = self::table(&feed(&mut node, head, 30));
    assert!(table.version > first);
    assert_eq!(table.deadline_ns, at(30 + (FRESH_FOR + DEGRADED_FOR).as_secs()).mono.0);
    let mut late = start(&world);
    late.handle(Input::DataplaneUp(plane(0)), at(1_000_000));
    late.handle(update(&world.publish(V1, &contents, ISSUED)), at(1_000_000));
    let table = self::table(&drain(&mut late, 1_000_000));
    assert_eq!(table.deadline_ns, at(1_000_000).mono.0, "0 would mean no deadline");
}

/// Design: no full disk keeps a verified revocation from the data plane.
#[test]
fn a_revocation_is_published_before_the_disk_and_nothing_else_of_its_snapshot_is() {
    let world = World::default();
    let mut node = running(&world);
    let mut contents = world.contents(3);
    contents.revoke(&world.cluster_ca, &[1]);
    node.handle(update(&world.publish(V2, &contents, ISSUED)), at(2));
    let outputs: Vec<Output> = std::iter::from_fn(|| node.poll_output()).collect();
    assert_eq!(names(&outputs), ["publish", "persist"]);
    let ids = |table: &v1::ForwardingTable| -> Vec<Vec<u8>> {
        table.peers.iter().map(|peer| peer.node_id.clone()).collect()
    };
    let early = table(&outputs);
    assert_eq!(ids(&early), [peer(2).node_id], "the revoked peer is gone, the new one is not there");
    assert_eq!(early.revoked.len(), 1);
    assert_eq!(early.newest_head, node.snapshot().unwrap().head_document().envelope());
    // The disk is full: the restriction stays in every later table.
    let Some(Output::Persist(id, _)) = outputs.last() else { panic!("{outputs:?}") };
    let refused = feed(&mut node, Input::PersistFailed(*id, Reason::StateNoSpace), 2);
    assert_eq!(names(&refused), ["nack"]);
    let again = table(&feed(&mut node, Input::CertificateIssued(leaf()), 3));
    assert_eq!((ids(&again), again.revoked.len()), (vec![peer(2).node_id], 1));
    // There is room again.
    let whole = feed(&mut node, update(&world.publish(V2, &contents, ISSUED)), 4);
    assert_eq!(names(&whole), ["publish", "persist", "publish", "ack"]);
    assert_eq!(ids(&table(&whole)), [peer(2).node_id, peer(3).node_id]);
}

#[test]
fn a_new_data_plane_gets_a_newer_table_and_no_leaf_means_no_table() {
    let world = World::default();
    let mut node = running(&world);
    feed(&mut node, Input::DataplaneDown, 2);
    assert!(!node.dataplane_up());
    let table = table(&feed(&mut node, Input::DataplaneUp(plane(100)), 3));
    assert_eq!(table.version, 101);
    let renewed = LinkCertificate { certificate: b"new".to_vec(), ..leaf() };
    let table = self::table(&feed(&mut node, Input::CertificateIssued(renewed), 3));
    assert_eq!((table.version, table.identity.unwrap().certificate), (102, b"new".to_vec()));
    let settings = settings(&world);
    let mut bare = Node::start(settings, &[], None, at(0));
    feed(&mut bare, Input::DataplaneUp(plane(0)), 1);
    let outputs = feed(&mut bare, update(&world.publish(V1, &world.contents(1), ISSUED)), 1);
    assert_eq!(names(&outputs), ["persist"]);
    assert_eq!(names(&feed(&mut bare, Input::CertificateIssued(leaf()), 1)), ["publish"]);
}

#[test]
fn hints_add_dial_addresses_for_peers_only() {
    let world = World::default();
    let mut node = running(&world);
    let entry = |node_id: Vec<u8>| v1::DirectoryEntry {
        node_id,
        link_hints: vec!["127.0.0.9:1".into(), "192.0.2.1:7443".into()],
        wireguard_hints: vec!["127.0.0.9:2".into()],
        observed_at_ms: 1,
    };
    let entries = vec![entry(peer(1).node_id), entry(vec![9; 16])];
    let directory = control(control_message::Body::Directory(v1::DirectoryUpdate { entries }));
    let table = table(&feed(&mut node, directory, 2));
    assert_eq!(table.peers.len(), 2);
    assert_eq!(table.peers[0].link_endpoints, ["192.0.2.1:7443", "127.0.0.9:1"], "signed first, none twice");
    assert_eq!(table.peers[0].wireguard_endpoints, ["192.0.2.1:51820", "127.0.0.9:2"]);
    assert_eq!(table.peers[0].allowed_ips.len(), 2, "hints never touch policy");
    // A peer that left and came back is not dialled where it was seen before.
    feed(&mut node, update(&world.publish(V2, &world.contents(0), ISSUED)), 3);
    let back = world.publish(HeadOrder::new(1, 3, 0), &world.contents(2), ISSUED);
    let table = self::table(&feed(&mut node, update(&back), 4));
    assert_eq!(table.peers[0].link_endpoints, ["192.0.2.1:7443"]);
}

#[test]
fn the_hello_names_what_is_held_and_known() {
    let world = World { dev: true, ..World::default() };
    let mut node = running(&world);
    feed(&mut node, Input::StreamClosed, 2);
    let outputs = feed(&mut node, Input::StreamOpened, 3);
    let Output::Send(message) = &outputs[0] else { panic!("{outputs:?}") };
    let Some(node_message::Body::Hello(hello)) = &message.body else { panic!("{message:?}") };
    let snapshot = node.snapshot().unwrap();
    assert_eq!(hello.leaf_hash, snapshot.leaf_hash().to_vec());
    assert_eq!(hello.newest_head, snapshot.head_document().envelope());
    assert_eq!(hello.features, ["dev"]);
    assert_eq!((hello.protocol_min, hello.protocol_max), (1, 1));
    assert_eq!((hello.agent_version.as_str(), hello.boot_id.as_str()), ("1", "boot"));
}

#[test]
fn reports_follow_the_interval_and_stop_with_the_stream() {
    let world = World::default();
    let mut node = running(&world);
    let hello = v1::ControlHello {
        protocol: 1,
        server_time_ms: ISSUED.0,
        report_interval_ms: 5_000,
        ..Default::default()
    };
    assert_eq!(names(&feed(&mut node, control(control_message::Body::Hello(hello)), 2)), ["report"]);
    assert_eq!(node.poll_timeout(at(2)), Some(at(7).mono));
    assert_eq!(names(&feed(&mut node, Input::TimedOut, 6)), [] as [&str; 0]);
    assert_eq!(names(&feed(&mut node, Input::TimedOut, 7)), ["report"]);
    feed(&mut node, Input::StreamClosed, 8);
    assert_eq!(names(&feed(&mut node, Input::TimedOut, 12)), [] as [&str; 0]);
}

#[test]
fn contact_is_named_by_stream_and_freshness() {
    let world = World::default();
    let mut node = running(&world);
    let (fresh, degraded, expired) = (2, FRESH_FOR.as_secs(), (FRESH_FOR + DEGRADED_FOR).as_secs());
    assert_eq!(node.contact(at(fresh)), NodeContact::Connected);
    assert_eq!(node.contact(at(degraded)), NodeContact::Recovering);
    feed(&mut node, Input::StreamClosed, 3);
    assert_eq!(node.contact(at(degraded - 1)), NodeContact::Connected, "lost contact alone degrades nothing");
    assert_eq!(node.contact(at(degraded)), NodeContact::Degraded);
    assert_eq!(node.contact(at(expired)), NodeContact::Isolated);
    assert_eq!(node.poll_timeout(at(fresh)), Some(at(degraded).mono));
}

/// Contract row "existing links and routes ... until degraded_until", under each word of policy.
#[test]
fn the_contract_is_in_the_deadlines_of_the_table() {
    let world = World::default();
    let publish = |ends: &[&str], roles: &[&str]| {
        let mut contents = world.contents(2);
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let policy = v1::PolicyChunk {
            degraded_ends: texts(ends),
            survive_forever_roles: texts(roles),
            ..world.policy()
        };
        contents.put(rap_contract::POLICY_SLOT, Some(v1::chunk::Body::Policy(policy)));
        contents.add_peer(v1::PeerRecord { roles: vec!["core".into()], ..peer(1) });
        let mut node = start(&world);
        feed(&mut node, Input::DataplaneUp(plane(0)), 1);
        let outputs = feed(&mut node, update(&world.publish(V1, &contents, ISSUED)), 1);
        (node, table(&outputs))
    };
    let (fresh_until, degraded_until) = (FRESH_FOR.as_secs(), (FRESH_FOR + DEGRADED_FOR).as_secs());
    let (_, plain) = publish(&[], &[]);
    assert_eq!(plain.deadline_ns, at(degraded_until).mono.0);
    let (_, ended) = publish(&["existing_links"], &[]);
    assert_eq!((ended.deadline_ns, ended.peers[0].deadline_ns), (at(fresh_until).mono.0, 0));
    // Reconnect ended by policy: from the instant of degradation there is nothing to dial.
    let (mut node, fresh) = publish(&["link_reconnect"], &[]);
    assert!(!fresh.peers[0].link_endpoints.is_empty(), "fresh: everything goes");
    assert_eq!(fresh.deadline_ns, at(degraded_until).mono.0, "links that exist stay");
    let degraded = table(&feed(&mut node, Input::TimedOut, fresh_until));
    assert!(degraded.peers.iter().all(|peer| peer.link_endpoints.is_empty()));
    // What policy marks survive_forever.
    let (_, survives) = publish(&[], &["core"]);
    let marks = |table: &v1::ForwardingTable| {
        let peers = table.peers.iter();
        peers.map(|peer| (peer.survive_forever, peer.deadline_ns)).collect::<Vec<_>>()
    };
    assert_eq!(marks(&survives), [(true, 0), (false, 0)], "no deadline besides the table's");
    // The mark goes before what policy ends.
    let (_, both) = publish(&["existing_links"], &["core"]);
    assert_eq!((both.deadline_ns, marks(&both)), (at(fresh_until).mono.0, vec![(true, 0), (false, 0)]));
}

#[test]
fn no_private_key_is_printed() {
    let world = World::default();
    let mut node = start(&world);
    feed(&mut node, Input::DataplaneUp(plane(0)), 1);
    let outputs = feed(&mut node, update(&world.publish(V1, &world.contents(1), ISSUED)), 1);
    let text = format!("{outputs:?} {:?}", leaf());
    assert!(text.contains("Table(version 1, 1 peers)"), "{text}");
    assert!(!text.contains("55, 55, 55") && !text.contains("108, 101, 97, 102, 32, 107"), "{text}");
}

#[test]
fn records_reach_the_disk_before_they_are_confirmed_and_the_hello_names_them() {
    let world = World::default();
    let mut node = running(&world);
    let next = World { authority: rap_contract::Signer::from_seed(&[81; 32]), ..World::default() };
    let signers = (&world.authority, &next.authority);
    let record = world.record(&world.chain(), v1::authority_record::Kind::Rotate, signers, 10);
    let records = v1::AuthorityRecords { records: vec![record] };
    let outputs = feed(&mut node, control(control_message::Body::Authority(records)), 2);
    assert_eq!(names(&outputs), ["persist", "authority"]);
    feed(&mut node, Input::StreamClosed, 3);
    let opened = feed(&mut node, Input::StreamOpened, 4);
    let Some(Output::Send(message)) = opened.first() else { panic!("{opened:?}") };
    let Some(node_message::Body::Hello(hello)) = &message.body else { panic!("{message:?}") };
    assert_eq!(hello.authority_sequence, 2);
    let outputs =
        feed(&mut node, update(&next.publish(HeadOrder::new(10, 1, 0), &next.contents(2), ISSUED)), 5);
    assert_eq!(names(&outputs), ["persist", "publish", "ack"]);
}
