use std::time::Duration;

use rap_wire::v1::{ForwardingTable, TablePeer, TableRevoked};

use super::*;

fn table() -> ForwardingTable {
    ForwardingTable {
        version: 3,
        node_id: vec![1; 16],
        cluster_id: vec![2; 16],
        installation_id: vec![3; 16],
        addresses: vec!["100.96.0.1/16".to_owned()],
        wireguard_private_key: vec![7; 32],
        peers: vec![peer(2), peer(3)],
        ..Default::default()
    }
}

fn peer(number: u8) -> TablePeer {
    TablePeer {
        node_id: vec![number; 16],
        wireguard_public_key: vec![number; 32],
        allowed_ips: vec![format!("fd00::{number}/128"), format!("100.96.0.{number}/32")],
        key_generation: 5,
        ..Default::default()
    }
}

#[test]
fn a_table_becomes_the_tables_of_the_devices() {
    let mut given = table();
    given.deadline_ns = 90;
    given.probe_interval_ms = 500;
    given.peers[0].deadline_ns = 50;
    given.peers[0].survive_forever = true;
    given.peers[0].keepalive_s = 25;
    let plan = read(given).ok().unwrap();
    assert_eq!((plan.version, plan.mtu), (3, DEFAULT_MTU));
    assert_eq!(plan.probe_interval, Some(Duration::from_millis(500)));
    assert_eq!(plan.device.deadline, Some(Mono(90)));
    let first = &plan.device.peers[0];
    assert_eq!((first.deadline, first.survive_forever, first.keepalive), (Some(Mono(50)), true, Some(25)));
    let second = &plan.device.peers[1];
    assert_eq!((second.deadline, second.survive_forever, second.keepalive), (None, false, None));
    // The own pool is IPv4 only, so that a ping goes there.
    assert_eq!(plan.peers[0].address, Some("100.96.0.2".parse().unwrap()));
    assert!(plan.leaf.is_none() && plan.links.peers.is_empty(), "no leaf, no links");
}

#[test]
fn revoked_generations_and_all_before_them_are_left_out() {
    let left = |generations: &[u64]| {
        let revoked = generations
            .iter()
            .map(|generation| TableRevoked { node_id: vec![2; 16], key_generation: *generation });
        let plan = read(ForwardingTable { revoked: revoked.collect(), ..table() }).ok().unwrap();
        assert_eq!(plan.device.peers.len(), plan.peers.len());
        (plan.peers.len(), plan.links.trust.revoked.get(&NodeId::from_bytes([2; 16])).copied())
    };
    assert_eq!(left(&[]), (2, None));
    assert_eq!(left(&[4]), (2, Some(4)));
    assert_eq!(left(&[5]), (1, Some(5)));
    assert_eq!(left(&[6, 1]), (1, Some(6)), "the highest counts");
}

#[test]
fn the_earliest_deadline_that_applies_ends_a_link() {
    let at = |table: u64, leaf: u64| Deadlines { table: deadline(table), leaf: deadline(leaf), grant: None };
    let never = Mono(u64::MAX);
    assert_eq!(at(0, 0).of_link(None, false), never);
    assert_eq!(at(9, 0).of_link(None, false), Mono(9));
    assert_eq!(at(9, 0).of_link(None, true), never);
    assert_eq!(at(9, 7).of_link(None, true), Mono(7), "no link without a valid leaf");
    assert_eq!(at(9, 7).of_link(Some(Mono(5)), true), Mono(5));
    assert_eq!(at(4, 7).of_link(Some(Mono(5)), false), Mono(4));
}

/// When the tunnel with a peer of no deadline of its own ends, as the device reckons it.
#[test]
fn a_tunnel_that_survives_outlasts_the_table_and_ends_with_the_own_leaf_or_a_grant() {
    let end = |table: u64, leaf: u64, grant: u64, survives: bool| {
        let all = Deadlines { table: deadline(table), leaf: deadline(leaf), grant: deadline(grant) };
        let common = all.of_tunnels().filter(|_| !survives);
        earliest(all.of_tunnel(None, survives), common).map(|Mono(end)| end)
    };
    assert_eq!(
        (end(4, 7, 0, false), end(4, 7, 0, true)),
        (Some(4), Some(7)),
        "with the leaf, as a link does"
    );
    assert_eq!((end(9, 7, 0, false), end(9, 7, 0, true)), (Some(7), Some(7)));
    assert_eq!((end(9, 7, 9, false), end(9, 7, 9, true)), (Some(9), Some(9)), "a grant needs no leaf");
    assert_eq!((end(5, 7, 5, false), end(5, 7, 5, true)), (Some(5), Some(7)), "a grant shortens nothing");
    assert_eq!((end(4, 0, 0, false), end(4, 0, 0, true)), (Some(4), None), "a leaf without an end");
    let own = Deadlines { table: None, leaf: deadline(7), grant: None }.of_tunnel(Some(Mono(5)), true);
    assert_eq!(own, Some(Mono(5)), "its own deadline counts");
}

#[test]
fn a_peer_without_a_key_is_linked_only() {
    let mut given = table();
    given.peers[0].wireguard_public_key.clear();
    assert!(read(given.clone()).is_err(), "addresses need a key");
    given.peers[0].allowed_ips.clear();
    let plan = read(given).ok().unwrap();
    assert_eq!((plan.device.peers.len(), plan.peers.len()), (1, 2));
    assert_eq!(plan.peers[0].address, None);
}

#[test]
fn messages_of_refusals_hold_no_key() {
    let mut given = table();
    given.wireguard_private_key = vec![0xab; 33];
    let fault = read(given).err().unwrap();
    assert_eq!(fault.reason, Reason::DataplaneTable);
    assert!(!fault.message.contains("171") && !fault.message.contains("ab,"), "{}", fault.message);
}

#[test]
fn settings_out_of_range_are_brought_into_it_and_useless_endpoints_left_out() {
    let mut given = table();
    given.mtu = 576;
    given.probe_interval_ms = 1;
    given.newest_head = vec![0; rap_link::HEAD_MAX + 1];
    given.peers[0].keepalive_s = u32::MAX;
    let hosts = ["host:1", "0.0.0.0:1", "127.0.0.1:0", "x", "224.0.0.1:1", "[::1]:7", "127.0.0.1:9"];
    given.peers[0].wireguard_endpoints = hosts.map(str::to_owned).to_vec();
    given.peers[1].wireguard_endpoints = (1..100).map(|port| format!("127.0.0.1:{port}")).collect();
    let plan = read(given).ok().unwrap();
    assert_eq!((plan.mtu, overlay_mtu(0), overlay_mtu(1400), overlay_mtu(70_000)), (1280, 1280, 1400, 9000));
    assert_eq!(plan.probe_interval, Some(Duration::from_millis(100)));
    assert!(plan.links.newest_head.is_empty());
    let [first, second] = plan.device.peers.as_slice() else { panic!("two peers") };
    assert_eq!(first.keepalive, Some(u16::MAX));
    assert_eq!(first.endpoints, ["[::1]:7", "127.0.0.1:9"].map(|endpoint| endpoint.parse().unwrap()));
    assert_eq!(second.endpoints.len(), 32);
}
