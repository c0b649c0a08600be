//! What makes no sense is in no table, is shown and is reported.

use super::*;
use rap_types::sense::Loopback;

fn start_with(world: &World, loopback: Loopback) -> Node {
    let settings = NodeSettings { loopback, ..settings(world) };
    Node::start(settings, &[], Some(leaf()), at(0))
}

#[test]
fn a_senseless_endpoint_is_not_dialled_and_a_senseless_peer_is_in_no_table() {
    let world = World::default();
    let bad = [
        "127.0.0.1:5432",
        "169.254.169.254:80",
        "0.0.0.0:7443",
        "255.255.255.255:7443",
        "224.0.0.1:7443",
        "192.0.2.7:0",
        "[fe80::1]:7443",
    ];
    let mut endpoints: Vec<String> = bad.iter().map(ToString::to_string).collect();
    endpoints.push("192.0.2.7:7443".into());
    let mut contents = world.contents(1);
    contents.add_peer(v1::PeerRecord {
        link_endpoints: endpoints.clone(),
        wireguard_endpoints: endpoints,
        ..peer(7)
    });
    contents.add_peer(v1::PeerRecord { overlay_ipv4: "8.8.8.8".into(), ..peer(8) });
    for (loopback, dialled) in [
        (Loopback::Refused, &["192.0.2.7:7443"][..]),
        (Loopback::Allowed, &["127.0.0.1:5432", "192.0.2.7:7443"]),
    ] {
        let mut node = start_with(&world, loopback);
        feed(&mut node, Input::DataplaneUp(plane(0)), 1);
        feed(&mut node, Input::StreamOpened, 1);
        let table = table(&feed(&mut node, update(&world.publish(V1, &contents, ISSUED)), 1));
        let names: Vec<&str> = table.peers.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["peer-1", "peer-7"], "the one at 8.8.8.8 is not there");
        assert_eq!(table.peers[1].link_endpoints, dialled);
        assert_eq!(table.peers[1].wireguard_endpoints, dialled);
        assert_eq!(table.addresses, ["100.96.0.5/16", "fd00::5/48"]);
        let hidden = NodeId::from_slice(&peer(8).node_id).unwrap();
        assert_eq!(node.peer("peer-8", at(1)).or(node.peer(&hidden.to_string(), at(1))), None);
        // The control plane hears of it with the first report.
        let hello = v1::ControlHello { protocol: 1, report_interval_ms: 1_000, ..Default::default() };
        let told = feed(&mut node, control(control_message::Body::Hello(hello)), 2);
        let [Output::Send(message)] = told.as_slice() else { panic!("{told:?}") };
        let Some(node_message::Body::Report(report)) = &message.body else { panic!("{message:?}") };
        let [unused] = report.unused_slots.as_slice() else { panic!("{report:?}") };
        assert_eq!(
            (unused.slot.as_str(), unused.reason.as_str()),
            (&*rap_contract::peer_slot(hidden), "snapshot.peer_invalid")
        );
        assert_eq!(unused.what, "an overlay address is outside the cluster's pools");
    }
}

#[test]
fn a_revocation_beside_a_contradiction_is_in_the_table_at_once() {
    let world = World::default();
    let mut node = running(&world);
    let mut contents = world.contents(2);
    contents.revoke(&world.cluster_ca, &[1]).add_peer(v1::PeerRecord { overlay_ipv4: "x".into(), ..peer(9) });
    let outputs = feed(&mut node, update(&world.publish(V2, &contents, ISSUED)), 2);
    assert_eq!(names(&outputs), ["publish", "nack"]);
    let table = table(&outputs);
    assert_eq!(table.revoked.len(), 1);
    assert!(table.peers.iter().all(|row| row.node_id != peer(1).node_id), "its links end");
    assert!(table.peers.iter().all(|row| row.name != "peer-9"));
}
