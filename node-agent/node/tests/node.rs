//! The composition: in which order things leave, what a table says, what a stream is told.

#[path = "../../trust/tests/support/mod.rs"]
mod support;

use std::time::Duration;

use rap_contract::{BreakGlassText, sign};
use rap_node::{ContactFacts, Input, LinkCertificate, Node, NodeSettings, Output};
use rap_trust::{KeptAudit, StoredBreakGlass};
use rap_types::{HeadOrder, Mono, NodeContact, NodeId, Reason};
use rap_wire::v1;
use support::{DEGRADED_FOR, FRESH_FOR, ISSUED, Published, World, at, peer};
use v1::break_glass_grant::Permit;
use v1::{control_message, node_message};
use zeroize::Zeroizing;

const V1: HeadOrder = HeadOrder::new(1, 1, 0);
const V2: HeadOrder = HeadOrder::new(1, 2, 0);

fn leaf() -> LinkCertificate {
    LinkCertificate {
        certificate: b"leaf".to_vec(),
        private_key: Zeroizing::new(b"leaf key".to_vec()),
        not_after: ISSUED.plus(Duration::from_secs(86_400)),
    }
}

fn start(world: &World) -> Node {
    let settings = NodeSettings {
        pinned: world.pinned(),
        floors: world.floors(),
        grants: (world.break_glass_pins(), StoredBreakGlass::default()),
        wireguard_private_key: Zeroizing::new([55; 32]),
        contact: ContactFacts {
            agent_version: "1".into(),
            boot_id: "boot".into(),
            ..ContactFacts::default()
        },
        audit: KeptAudit::default(),
    };
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
        Output::Reconnect(_) => "reconnect",
        Output::Alarm(_) => "alarm",
        Output::PersistBreakGlass => "persist-grants",
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
    feed(&mut node, Input::DataplaneUp(0), 1);
    feed(&mut node, Input::StreamOpened, 1);
    feed(&mut node, update(&world.publish(V1, &world.contents(2), ISSUED)), 1);
    node
}

#[test]
fn disk_then_table_then_acknowledgement() {
    let world = World::default();
    let mut node = start(&world);
    assert_eq!(
        names(&feed(&mut node, Input::DataplaneUp(0), 1)),
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
    feed(&mut node, Input::DataplaneUp(41), 1);
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
    feed(&mut node, Input::DataplaneUp(0), 1);
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
    late.handle(Input::DataplaneUp(0), at(1_000_000));
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
    let table = table(&feed(&mut node, Input::DataplaneUp(100), 3));
    assert_eq!(table.version, 101);
    let renewed = LinkCertificate { certificate: b"new".to_vec(), ..leaf() };
    let table = self::table(&feed(&mut node, Input::CertificateIssued(renewed), 3));
    assert_eq!((table.version, table.identity.unwrap().certificate), (102, b"new".to_vec()));
    let settings = NodeSettings {
        pinned: world.pinned(),
        floors: world.floors(),
        grants: (world.break_glass_pins(), StoredBreakGlass::default()),
        wireguard_private_key: Zeroizing::new([55; 32]),
        contact: ContactFacts::default(),
        audit: KeptAudit::default(),
    };
    let mut bare = Node::start(settings, &[], None, at(0));
    feed(&mut bare, Input::DataplaneUp(0), 1);
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
    let hello = v1::ControlHello { protocol: 1, server_time_ms: ISSUED.0, report_interval_ms: 5_000 };
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
        feed(&mut node, Input::DataplaneUp(0), 1);
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

/// Contract rows for probes: asked where a ping starts.
#[test]
fn probes_go_on_while_degraded_and_end_with_it() {
    let world = World::default();
    let mut node = running(&world);
    let ask = |id: u8| {
        let ping = v1::PingRequest { node_id: peer(1).node_id, count: 1, interval_ms: 100 };
        control(control_message::Body::Diagnostic(v1::DiagnosticRequest {
            diagnostic_id: vec![id; 16],
            body: Some(v1::diagnostic_request::Body::Ping(ping)),
        }))
    };
    let (degraded, expired) = (FRESH_FOR.as_secs(), (FRESH_FOR + DEGRADED_FOR).as_secs());
    assert_eq!(names(&feed(&mut node, ask(1), degraded)), ["ping"]);
    let refused = feed(&mut node, ask(2), expired);
    assert_eq!(names(&refused), ["diagnostic"]);
    assert!(format!("{refused:?}").contains("degraded.refused"), "{refused:?}");
}

#[test]
fn what_happened_without_contact_is_reported_when_it_returns() {
    let world = World::default();
    let mut node = running(&world);
    let hello = v1::ControlHello { protocol: 1, server_time_ms: ISSUED.0, report_interval_ms: 5_000 };
    feed(&mut node, control(control_message::Body::Hello(hello)), 2);
    feed(&mut node, Input::StreamClosed, 3);
    let (degraded, expired) = (FRESH_FOR.as_secs(), (FRESH_FOR + DEGRADED_FOR).as_secs());
    feed(&mut node, Input::TimedOut, degraded);
    feed(&mut node, Input::TimedOut, expired);
    assert_eq!(node.contact_since().at, at(expired).wall);
    let report = |outputs: &[Output]| {
        let reports = outputs.iter().filter_map(|output| match output {
            Output::Send(message) => match &message.body {
                Some(node_message::Body::Report(report)) => Some(report.clone()),
                _ => None,
            },
            _ => None,
        });
        let changes = |report: &v1::NodeReport| -> Vec<(String, i64)> {
            report.contact_changes.iter().map(|change| (change.contact.clone(), change.at_ms)).collect()
        };
        let report = reports.into_iter().next().expect("a report");
        (report.contact.clone(), changes(&report))
    };
    // The hello comes first on every stream; then the report says what was missed, at once.
    let opened = feed(&mut node, Input::StreamOpened, expired + 10);
    assert_eq!(names(&opened), ["hello", "authority", "report"]);
    let wall = |seconds: u64| at(seconds).wall.0;
    let told =
        [("degraded", wall(degraded)), ("isolated", wall(expired)), ("recovering", wall(expired + 10))];
    let told = told.map(|(contact, at)| (contact.to_owned(), at)).to_vec();
    assert_eq!(report(&opened), ("recovering".into(), told));
    // Caught up: said at once, not at the next interval.
    let issued = at(expired + 11).wall;
    let outputs = feed(&mut node, update(&world.publish(V2, &world.contents(2), issued)), expired + 11);
    assert_eq!(report(&outputs), ("connected".into(), vec![("connected".into(), issued.0)]));
}

fn apply(node: &mut Node, text: &str, seconds: u64) -> Vec<Output> {
    let admission = node.judge_grant(text, at(seconds)).unwrap();
    feed(node, Input::BreakGlassStored(Box::new(admission)), seconds)
}

#[test]
fn a_grant_extends_degraded_mode_admits_a_peer_and_both_end_by_themselves() {
    let world = World::default();
    let mut node = running(&world);
    let end = (FRESH_FOR + DEGRADED_FOR).as_secs();
    feed(&mut node, Input::StreamClosed, 2);
    let grant = |nonce: u8, permit: Permit| {
        let grant = world.grant(nonce, at(end - 10).wall, &world.root, permit);
        BreakGlassText::new(sign(&grant, &[&world.root]), vec![world.root.public()]).text()
    };
    let until = end + 1_000;
    let extension = grant(1, Permit::ExtendDegraded(v1::ExtendDegraded { until_ms: at(until).wall.0 }));
    let table = self::table(&apply(&mut node, &extension, end - 10));
    assert_eq!((table.deadline_ns, table.tunnel_deadline_ns), (at(until).mono.0, at(until).mono.0));
    assert_eq!(node.contact(at(end)), NodeContact::Degraded, "else it would be isolated");
    assert_eq!(node.judge_grant(&extension, at(end)).unwrap_err().reason, Reason::BreakGlassReplayed);
    let record = v1::PeerRecord {
        node_id: vec![77; 16],
        name: "rescue".into(),
        node_key_sha256: vec![77; 32],
        wireguard_public_key: vec![78; 32],
        overlay_ipv4: "100.96.7.7".into(),
        overlay_ipv6: "fd00::77".into(),
        ..peer(1)
    };
    let permit = grant(2, Permit::PermitPeer(v1::PermitPeer { peer: Some(record) }));
    let table = self::table(&apply(&mut node, &permit, end));
    let row = table.peers.last().unwrap();
    assert_eq!((table.peers.len(), row.name.as_str(), row.deadline_ns), (3, "rescue", at(until).mono.0));
    assert_eq!(row.allowed_ips, ["100.96.7.7/32", "fd00::77/128"]);
    assert!(node.peer("rescue", at(end)).is_some());
    // The extension ends first, then the permit; each with a table of its own.
    assert_eq!(node.poll_timeout(at(end)), Some(at(until).mono));
    let table = self::table(&feed(&mut node, Input::TimedOut, until));
    assert_eq!((table.tunnel_deadline_ns, node.contact(at(until))), (0, NodeContact::Isolated));
    let over = end - 10 + 3_600;
    let table = self::table(&feed(&mut node, Input::TimedOut, over));
    assert_eq!(table.peers.len(), 2);
    assert_eq!(node.peer("rescue", at(over)), None);
}

#[test]
fn a_grant_is_told_on_every_stream_until_the_control_plane_has_it() {
    let world = World::default();
    let mut node = running(&world);
    let grant = world.grant(
        1,
        ISSUED,
        &world.authority,
        Permit::ExtendDegraded(v1::ExtendDegraded { until_ms: at(60).wall.0 }),
    );
    let text = BreakGlassText::new(sign(&grant, &[&world.authority]), vec![]).text();
    assert!(names(&apply(&mut node, &text, 2)).contains(&"break-glass"), "at once, if somebody listens");
    feed(&mut node, Input::StreamClosed, 3);
    assert_eq!(names(&feed(&mut node, Input::StreamOpened, 4)), ["hello", "authority", "break-glass"]);
    let digest = node.grants().next().unwrap().stored.digest.to_vec();
    let other = v1::BreakGlassAck { digest: vec![0; 32], reason: String::new() };
    assert_eq!(
        names(&feed(&mut node, control(control_message::Body::BreakGlassAck(other)), 5)),
        [] as [&str; 0]
    );
    let ack = v1::BreakGlassAck { digest, reason: String::new() };
    let acked = control(control_message::Body::BreakGlassAck(ack));
    assert_eq!(names(&feed(&mut node, acked.clone(), 5)), ["persist-grants"]);
    assert_eq!(names(&feed(&mut node, acked, 5)), [] as [&str; 0]);
    feed(&mut node, Input::StreamClosed, 6);
    assert_eq!(names(&feed(&mut node, Input::StreamOpened, 7)), ["hello", "authority"]);
}

#[test]
fn pings_run_for_peers_and_answer_once() {
    let world = World::default();
    let mut node = running(&world);
    let ask = |id: u8, target: Vec<u8>| {
        let ping = v1::PingRequest { node_id: target, count: 2, interval_ms: 100 };
        control(control_message::Body::Diagnostic(v1::DiagnosticRequest {
            diagnostic_id: vec![id; 16],
            body: Some(v1::diagnostic_request::Body::Ping(ping)),
        }))
    };
    assert_eq!(names(&feed(&mut node, ask(1, vec![9; 16]), 2)), ["diagnostic"]);
    assert_eq!(names(&feed(&mut node, ask(2, peer(1).node_id), 2)), ["ping"]);
    let outcome = v1::PingOutcome { overlay_address: "100.96.0.11".into(), ..Default::default() };
    assert_eq!(names(&feed(&mut node, Input::PingEnded([2; 16], Ok(outcome)), 3)), ["diagnostic"]);
    assert_eq!(
        names(&feed(&mut node, Input::PingEnded([2; 16], Err(Reason::ProbeTimeout)), 3)),
        [] as [&str; 0]
    );
    assert_eq!(names(&feed(&mut node, ask(3, peer(1).node_id), 4)), ["ping"]);
    assert_eq!(node.poll_timeout(at(4)), Some(Mono(at(14).mono.0)));
    assert_eq!(names(&feed(&mut node, Input::TimedOut, 14)), ["diagnostic"]);
}

#[test]
fn peers_are_found_by_name_and_id() {
    let world = World::default();
    let node = running(&world);
    let first = NodeId::from_slice(&peer(1).node_id).unwrap();
    assert_eq!(node.peer("peer-1", at(2)), Some(first));
    assert_eq!(node.peer(&first.to_string(), at(2)), Some(first));
    assert_eq!(node.peer("peer-3", at(2)), None);
    assert_eq!(node.peer(&world.node.to_string(), at(2)), None);
}

#[test]
fn going_away_leaves_the_stream_and_a_message_without_body_is_ignored() {
    let world = World::default();
    let mut node = running(&world);
    let going = control(control_message::Body::GoingAway(v1::GoingAway { reconnect_after_ms: 1500 }));
    let outputs = feed(&mut node, going, 2);
    assert!(
        matches!(outputs.as_slice(), [Output::Reconnect(after)] if *after == Duration::from_millis(1500))
    );
    let unknown = Input::Control(Box::new(v1::ControlMessage { body: None }));
    assert_eq!(names(&feed(&mut node, unknown, 2)), [] as [&str; 0]);
}

#[test]
fn no_private_key_is_printed() {
    let world = World::default();
    let mut node = start(&world);
    feed(&mut node, Input::DataplaneUp(0), 1);
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
