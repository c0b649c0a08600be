use std::time::Duration;

use rap_mesh::Dial;
use rap_runtime::Fault;
use rap_types::{Mono, NodeId, Reason, limits};
use rap_wire::v1::{ForwardingTable, TableDelta, TableGate, TableLink, TablePath, TablePeer, TableRevoked};
use rap_wireguard::DEFAULT_MTU;

use super::header::overlay_mtu;
use super::*;
use crate::bounds::Bounds;

fn read(table: ForwardingTable) -> Result<Plan, Fault> {
    KnownTable::whole(table, &Bounds::default()).map(|table| table.plan(&LearnedRevocations::default()))
}

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
    assert_eq!(plan.links.probe_interval, Some(Duration::from_millis(500)));
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
fn a_peer_without_a_key_is_linked_only() {
    let mut given = table();
    given.peers[0].wireguard_public_key.clear();
    assert_eq!(read(given.clone()).ok().unwrap().peers.len(), 1, "addresses need a key");
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
    assert_eq!(plan.links.probe_interval, Some(Duration::from_millis(100)));
    assert!(plan.links.newest_head.is_empty());
    let [first, second] = plan.device.peers.as_slice() else { panic!("two peers") };
    assert_eq!(first.keepalive, Some(u16::MAX));
    assert_eq!(first.endpoints, ["[::1]:7", "127.0.0.1:9"].map(|endpoint| endpoint.parse().unwrap()));
    assert_eq!(second.endpoints.len(), 32);
}

#[test]
fn marks_say_who_is_dialled_and_who_is_accepted() {
    let linked = |link: i32| {
        let mut given = table();
        given.peers.truncate(1);
        given.peers[0].link = link;
        given.peers[0].link_endpoints = vec!["127.0.0.1:7".to_owned()];
        let known = KnownTable::whole(given, &Bounds::default())?;
        let peer = known.peer(NodeId::from_bytes([2; 16])).unwrap();
        let all = deadlines::Deadlines { table: None, leaf: None, grant: None };
        let dial = |alone| peer.for_mesh(all, alone).map(|peer| (peer.endpoints.len(), peer.dial));
        Ok::<_, Fault>((dial(false), dial(true)))
    };
    let both = |dial, alone| Ok((Some((1, dial)), Some((1, alone))));
    assert_eq!(linked(TableLink::Dial.into()), both(Dial::InTurn, Dial::AtOnce));
    let on_demand = both(Dial::OnDemand, Dial::OnDemand);
    assert_eq!(linked(TableLink::Accept.into()), on_demand, "accepted, dialled for a path only");
    assert_eq!(linked(TableLink::None.into()), Ok((None, None)));
    assert_eq!(linked(9).unwrap_err().reason, Reason::DataplaneTableUnsupported);
}

#[test]
fn what_this_version_cannot_do_is_refused_and_not_ignored() {
    let refused = |change: fn(&mut ForwardingTable)| {
        let mut given = table();
        change(&mut given);
        read(given).err().map(|fault| fault.reason)
    };
    let unsupported = Some(Reason::DataplaneTableUnsupported);
    assert_eq!(refused(|_| {}), None);
    assert_eq!(refused(|table| table.gates.push(TableGate::default())), unsupported);
    assert_eq!(refused(|table| table.critical.push("gates".to_owned())), unsupported);
    assert_eq!(refused(|table| table.peers[0].lanes.push(1)), unsupported);
}

#[test]
fn a_peer_is_relayed_if_a_path_to_it_can_be_made_of_the_relays_of_the_table() {
    let relayed = |relays: &[u8], primary: &[u32], backup: Option<u32>| {
        let mut given = table();
        given.relays = relays.iter().map(|number| vec![*number; 16]).collect();
        given.peers[0].primary = Some(TablePath { relays: primary.to_vec() });
        given.peers[0].backup = backup.map(|position| TablePath { relays: vec![position] });
        let plan = read(given).ok().unwrap();
        assert!(!plan.device.peers.last().unwrap().relayed, "nothing was said of the other");
        let planned: Vec<_> = plan.paths.plans.iter().map(|plan| plan.destination).collect();
        assert_eq!(planned, if plan.device.peers[0].relayed { vec![plan.peers[0].node] } else { Vec::new() });
        assert_eq!(plan.paths.terms.known.len(), plan.peers.len());
        (plan.device.peers.len(), plan.device.peers[0].relayed)
    };
    assert_eq!(relayed(&[8, 9], &[0], Some(1)), (2, true));
    assert_eq!(relayed(&[8, 9], &[2], None), (2, false), "there is no third");
    assert_eq!(relayed(&[8, 9], &[2], Some(0)), (2, true), "the backup is there");
    assert_eq!(relayed(&[2, 1], &[0], Some(1)), (2, false), "through this node or the peer itself");
    assert_eq!(
        relayed(&[8, 9], &[0, 0], None),
        (1, false),
        "a path that makes no sense: the peer is left out"
    );
}

#[test]
fn a_preshared_key_and_routed_prefixes_reach_the_device() {
    let mut given = table();
    given.peers[0].preshared_key = vec![5; 32];
    given.routed = vec!["192.168.0.0/16".to_owned()];
    let plan = read(given.clone()).ok().unwrap();
    assert!(plan.device.peers[0].preshared.is_some() && plan.device.peers[1].preshared.is_none());
    assert_eq!(plan.device.routed, ["192.168.0.0/16".parse().unwrap()]);
    for wrong in [vec![5; 31], vec![0; 32]] {
        given.peers[0].preshared_key = wrong;
        assert_eq!(read(given.clone()).ok().unwrap().peers.len(), 1, "it is left out");
    }
}

/// The change that makes `to` of `from`, as an agent would write it.
fn delta(from: &ForwardingTable, to: ForwardingTable, removed: &[u8]) -> TableDelta {
    let header = ForwardingTable { version: 0, peers: Vec::new(), revoked: Vec::new(), ..to.clone() };
    TableDelta {
        base_version: from.version,
        version: to.version,
        header: Some(header),
        peers: to.peers,
        removed: removed.iter().map(|number| vec![*number; 16]).collect(),
        revoked: to.revoked,
    }
}

#[test]
fn a_change_makes_the_table_that_a_whole_one_would() {
    let mut to = ForwardingTable { version: 4, mtu: 1400, ..table() };
    to.peers = vec![peer(3), peer(4)];
    to.peers[0].keepalive_s = 7;
    to.revoked = vec![TableRevoked { node_id: vec![4; 16], key_generation: 1 }];
    let base = KnownTable::whole(table(), &Bounds::default()).ok().unwrap();
    let changed = base.changed(delta(&table(), to.clone(), &[2]), &Bounds::default()).ok().unwrap();
    let (ours, whole) = (changed.plan(&LearnedRevocations::default()), read(to).ok().unwrap());
    assert_eq!((ours.version, ours.mtu, &ours.peers), (whole.version, whole.mtu, &whole.peers));
    assert_eq!(ours.device.peers[0].keepalive, Some(7));
    assert_eq!(ours.links.trust.revoked, whole.links.trust.revoked);
    let small = TableDelta { base_version: 4, version: 5, ..Default::default() };
    let plan = changed.changed(small, &Bounds::default()).ok().unwrap().plan(&LearnedRevocations::default());
    assert_eq!((plan.version, plan.mtu, plan.peers.len()), (5, 1400, 2), "nothing but the version changes");
}

fn nodes(table: &KnownTable) -> (Vec<u8>, Vec<u8>) {
    let plan = table.plan(&LearnedRevocations::default());
    let first = |node: NodeId| node.as_bytes()[0];
    let tunnels = plan.peers.iter().filter(|peer| peer.key.is_some()).map(|peer| first(peer.node));
    assert_eq!(tunnels.clone().count(), plan.device.peers.len());
    (plan.peers.iter().map(|peer| first(peer.node)).collect(), tunnels.collect())
}

#[test]
fn one_unusable_peer_holds_up_neither_the_others_nor_a_removal() {
    let base = KnownTable::whole(table(), &Bounds::default()).ok().unwrap();
    type Damage = fn(&mut TablePeer);
    let damages: [(&str, Damage); 6] = [
        ("an all-zero key", |peer| peer.wireguard_public_key = vec![0; 32]),
        ("a key of small order", |peer| peer.wireguard_public_key = [&[1][..], &[0; 31]].concat()),
        ("a key with bit 255", |peer| peer.wireguard_public_key = [&[0; 31][..], &[0x80]].concat()),
        ("no prefix", |peer| peer.allowed_ips[0] = "x".to_owned()),
        ("a multicast prefix", |peer| peer.allowed_ips[0] = "224.0.0.0/4".to_owned()),
        ("a preshared key of zeros", |peer| peer.preshared_key = vec![0; 32]),
    ];
    for (what, damage) in damages {
        let mut bad = peer(4);
        damage(&mut bad);
        let with_bad = TableDelta {
            base_version: 3,
            version: 4,
            peers: vec![bad.clone(), peer(5)],
            removed: vec![vec![2; 16]],
            ..Default::default()
        };
        let changed = base.changed(with_bad, &Bounds::default()).ok().unwrap();
        assert_eq!(nodes(&changed).0, [3, 5], "{what}");
        // It may be removed as if it were there, and takes the place of its sound record if it had one.
        let removed = vec![vec![4; 16]];
        let gone = TableDelta { base_version: 4, version: 5, removed, ..Default::default() };
        assert_eq!(nodes(&changed.changed(gone, &Bounds::default()).ok().unwrap()).0, [3, 5], "{what}");
        bad.node_id = vec![3; 16];
        let worse = TableDelta { base_version: 4, version: 5, peers: vec![bad], ..Default::default() };
        assert_eq!(nodes(&changed.changed(worse, &Bounds::default()).ok().unwrap()).0, [5], "{what}");
    }
}

#[test]
fn of_two_peers_with_one_key_or_prefix_the_second_has_no_tunnel() {
    let tunnels = |change: fn(&mut ForwardingTable)| {
        let mut given = table();
        given.peers.push(peer(4));
        change(&mut given);
        nodes(&KnownTable::whole(given, &Bounds::default()).ok().unwrap())
    };
    assert_eq!(tunnels(|_| {}).1, [2, 3, 4]);
    let all = vec![2, 3, 4];
    let key = |table: &mut ForwardingTable| table.peers[2].wireguard_public_key = vec![3; 32];
    assert_eq!(tunnels(key), (all.clone(), vec![2, 3]));
    let prefix = |table: &mut ForwardingTable| table.peers[2].allowed_ips[1] = "100.96.0.2/32".to_owned();
    assert_eq!(tunnels(prefix), (all.clone(), vec![2, 3]));
    let own = |table: &mut ForwardingTable| table.peers[0].allowed_ips[1] = "100.96.0.1/32".to_owned();
    assert_eq!(tunnels(own), (all.clone(), vec![3, 4]));
    let routed = |table: &mut ForwardingTable| {
        table.routed = vec!["10.0.0.0/24".to_owned()];
        table.peers[1].allowed_ips.push("10.0.0.9/24".to_owned());
    };
    assert_eq!(tunnels(routed), (all.clone(), vec![2, 4]));
    // A peer that is admitted for a while takes nothing from one that stays, whatever their ids.
    let admitted = |table: &mut ForwardingTable| {
        table.peers[0].deadline_ns = 50;
        table.peers[0].allowed_ips = table.peers[2].allowed_ips.clone();
    };
    assert_eq!(tunnels(admitted), (all, vec![3, 4]));
    let twice = |table: &mut ForwardingTable| table.peers[2].node_id = vec![3; 16];
    assert_eq!(tunnels(twice).0, [2], "two entries of one id contradict each other");
}

#[test]
fn a_change_of_another_table_is_refused_with_its_own_code() {
    let base = KnownTable::whole(table(), &Bounds::default()).ok().unwrap();
    let reason = |delta| base.changed(delta, &Bounds::default()).err().map(|fault| fault.reason);
    let to = || ForwardingTable { version: 4, peers: vec![peer(4)], ..table() };
    assert_eq!(reason(delta(&table(), to(), &[])), None);
    let older = ForwardingTable { version: 2, ..table() };
    assert_eq!(reason(delta(&older, to(), &[])), Some(Reason::DataplaneTableBase));
    assert_eq!(reason(delta(&table(), to(), &[9])), Some(Reason::DataplaneTableBase), "nobody to remove");
    let mut bad = to();
    bad.addresses = vec!["x".to_owned()];
    assert_eq!(reason(delta(&table(), bad, &[])), Some(Reason::DataplaneTable));
}

#[test]
fn the_limit_holds_for_tables_and_for_changes() {
    let many = |count: usize| {
        let number = |index: usize| (index as u128 + 256).to_be_bytes().to_vec();
        let bare = |index| TablePeer { node_id: number(index), ..Default::default() };
        ForwardingTable { peers: (0..count).map(bare).collect(), ..table() }
    };
    let reason = |table| KnownTable::whole(table, &Bounds::default()).err().map(|fault| fault.reason);
    assert_eq!(reason(many(limits::TABLE_PEERS_MAX + 1)), Some(Reason::DataplaneTableTooLarge));
    let full = KnownTable::whole(many(limits::TABLE_PEERS_MAX), &Bounds::default()).ok().unwrap();
    let more = delta(&table(), ForwardingTable { version: 4, peers: vec![peer(2)], ..table() }, &[]);
    assert_eq!(full.changed(more, &Bounds::default()).err().unwrap().reason, Reason::DataplaneTableTooLarge);
}
