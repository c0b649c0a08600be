//! Break-glass grants in the node.

use super::*;

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
