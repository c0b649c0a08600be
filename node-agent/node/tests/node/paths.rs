//! What a table says of relays: through whom each peer is reached, who is dialled, and what this node carries.

use std::collections::BTreeSet;

use rap_contract::relays_slot;
use rap_types::{Digest, OrganizationId};
use v1::chunk::Body;
use v1::{TableLink, TablePath, TablePeer};

use super::*;
use crate::support::Contents;

/// Peers 1 to `count`, of which these relay for the platform.
fn contents(world: &World, count: u8, relays: &[u8]) -> Contents {
    let mut contents = world.contents(count);
    put_relays(&mut contents, None, relays.iter().map(|relay| peer(*relay).node_id));
    contents
}

fn put_relays(contents: &mut Contents, owner: Option<OrganizationId>, relays: impl Iterator<Item = Vec<u8>>) {
    let relays = relays.map(|node_id| v1::RelayEntry { node_id, ..Default::default() }).collect();
    contents.put(&relays_slot(owner), Some(Body::Relays(v1::RelaysChunk { relays })));
}

fn table_of(world: &World, contents: &Contents) -> v1::ForwardingTable {
    let mut node = start(world);
    feed(&mut node, Input::DataplaneUp(plane(0)), 1);
    table(&feed(&mut node, update(&world.publish(V1, contents, ISSUED)), 1))
}

fn entry(table: &v1::ForwardingTable, index: u8) -> &TablePeer {
    table.peers.iter().find(|entry| entry.node_id == peer(index).node_id).unwrap()
}

/// The relay that a path names, as the index of the peer.
fn through(table: &v1::ForwardingTable, path: &Option<TablePath>) -> Option<u8> {
    let [at] = path.as_ref()?.relays[..] else { panic!("{path:?}") };
    Some(table.relays[at as usize][0] - 100)
}

fn dialled(table: &v1::ForwardingTable) -> BTreeSet<u8> {
    let dialled = table.peers.iter().filter(|peer| peer.link() == TableLink::Dial);
    dialled.map(|peer| peer.node_id[0] - 100).collect()
}

/// The homes of a node among these relays, by the formula of the protocol.
fn homes(node: &[u8], relays: &[u8]) -> Vec<u8> {
    let mut homes = relays.to_vec();
    homes.sort_by_key(|relay| Digest::of(&[b"rap.home.v1\0", node, &peer(*relay).node_id]));
    homes.reverse();
    homes
}

#[test]
fn every_peer_is_reached_through_its_first_two_homes_and_a_plain_node_dials_its_own() {
    let world = World::default();
    let relays = [1, 2, 3, 4];
    let mut contents = contents(&world, 12, &relays);
    let table = table_of(&world, &contents);
    assert_eq!((table.path_lifetime_s, table.path_instance), (40, 7));
    assert_eq!(table.relay, None, "it carries nothing");
    for index in 1..=12 {
        let found = entry(&table, index);
        let mut expected = homes(&peer(index).node_id, &relays);
        expected.retain(|relay| *relay != index);
        let pair = (through(&table, &found.primary), through(&table, &found.backup));
        assert_eq!(pair, (Some(expected[0]), Some(expected[1])), "{index}");
    }
    let own = homes(world.node.as_bytes(), &relays);
    assert_eq!(dialled(&table), own[..2].iter().copied().collect(), "it cannot be dialled: two");
    let assignment = v1::NodeAssignment { inbound: true, ..world.assignment() };
    contents.put("assignment", Some(Body::Assignment(assignment)));
    assert_eq!(dialled(&table_of(&world, &contents)), BTreeSet::from([own[0]]), "it can be dialled: one");
}

#[test]
fn without_relays_or_with_a_data_plane_that_knows_none_everybody_is_dialled() {
    let world = World::default();
    let bare = table_of(&world, &world.contents(5));
    let mut node = start(&world);
    feed(&mut node, Input::DataplaneUp(PlaneFacts::default()), 1);
    let told = feed(&mut node, update(&world.publish(V1, &contents(&world, 5, &[1, 2]), ISSUED)), 1);
    for table in [bare, table(&told)] {
        assert_eq!(dialled(&table), (1..=5).collect());
        assert!(table.relays.is_empty() && table.relay.is_none());
        assert!(table.peers.iter().all(|peer| peer.primary.is_none() && peer.backup.is_none()));
    }
}

#[test]
fn a_relay_dials_relays_and_takes_what_plain_nodes_dial() {
    let world = World::default();
    let mut contents = world.contents(5);
    let own = world.node.to_vec();
    let mut ids = vec![peer(1).node_id, own, peer(2).node_id];
    ids.sort_unstable();
    put_relays(&mut contents, None, ids.into_iter());
    let table = table_of(&world, &contents);
    let duty = table.relay.unwrap();
    assert!(duty.any_organization && !duty.draining);
    assert_eq!(duty.attachments_max, 7);
    assert_eq!(dialled(&table), BTreeSet::from([1, 2]));
    for index in 3..=5 {
        let ways = [&entry(&table, index).primary, &entry(&table, index).backup];
        let through: BTreeSet<_> = ways.map(|path| through(&table, path)).into();
        assert_eq!(through, BTreeSet::from([Some(1), Some(2)]), "never through itself");
    }
}

#[test]
fn a_relay_of_an_organization_carries_only_between_two_of_its_nodes() {
    let world = World::default();
    let organization = OrganizationId::from_bytes([7; 16]);
    let of = |index: u8, organization: Option<OrganizationId>| v1::PeerRecord {
        organization_id: organization.map(OrganizationId::to_vec).unwrap_or_default(),
        ..peer(index)
    };
    let with_own = |own: Option<OrganizationId>| {
        let mut contents = contents(&world, 5, &[1]);
        put_relays(&mut contents, Some(organization), [peer(2).node_id].into_iter());
        contents.add_peer(of(2, Some(organization))).add_peer(of(3, Some(organization)));
        let organization_id = own.map(OrganizationId::to_vec).unwrap_or_default();
        let own = v1::NodeAssignment { organization_id, ..world.assignment() };
        contents.put("assignment", Some(Body::Assignment(own)));
        table_of(&world, &contents)
    };
    let ways = |table: &v1::ForwardingTable, index: u8| {
        let found = entry(table, index);
        [&found.primary, &found.backup]
            .into_iter()
            .filter_map(|path| through(table, path))
            .collect::<BTreeSet<_>>()
    };
    let inside = with_own(Some(organization));
    assert_eq!(inside.organization_id, organization.to_vec());
    assert_eq!((ways(&inside, 3), ways(&inside, 4)), ([1, 2].into(), [1].into()));
    let outside = with_own(None);
    assert_eq!((ways(&outside, 3), ways(&outside, 4)), ([1].into(), [1].into()));
    assert_eq!(entry(&outside, 3).organization_id, organization.to_vec());
}

#[test]
fn relays_that_contradict_their_records_are_not_used_and_are_told() {
    let world = World::default();
    let mut contents = contents(&world, 4, &[1, 2, 9]);
    let organization_id = vec![7; 16];
    contents.add_peer(v1::PeerRecord { organization_id, ..peer(2) });
    let mut node = start(&world);
    feed(&mut node, Input::DataplaneUp(plane(0)), 1);
    let table = table(&feed(&mut node, update(&world.publish(V1, &contents, ISSUED)), 1));
    assert_eq!(table.relays, [peer(1).node_id], "2 is a customer's, 9 is nobody");
    let told: Vec<v1::UnusedSlot> = node.unused_slots().collect();
    assert_eq!((told.len(), told[0].slot.as_str()), (1, relays_slot(None).as_str()));
}

#[test]
fn a_relay_that_comes_or_goes_moves_no_position_and_few_paths() {
    let world = World::default();
    let all: Vec<u8> = (1..=8).collect();
    let mut node = start(&world);
    feed(&mut node, Input::DataplaneUp(plane(0)), 1);
    let mut version = 0;
    let mut publish = |relays: &[u8]| {
        version += 1;
        let order = HeadOrder::new(1, version, 0);
        table(&feed(&mut node, update(&world.publish(order, &contents(&world, 60, relays), ISSUED)), 1))
    };
    let before = publish(&all);
    let without = publish(&[&all[..2], &all[3..]].concat());
    let again = publish(&all);
    for later in [&without, &again] {
        for relay in all.iter().filter(|relay| **relay != 3) {
            let at = |table: &v1::ForwardingTable| {
                table.relays.iter().position(|id| *id == peer(*relay).node_id).unwrap()
            };
            assert_eq!(at(&before), at(later), "{relay}");
        }
    }
    let uses = |table: &v1::ForwardingTable, index: u8| {
        let found = entry(table, index);
        [through(table, &found.primary), through(table, &found.backup)].contains(&Some(3))
    };
    let mut moved = 0;
    for index in (1..=60).filter(|index| *index != 3) {
        let same = entry(&before, index) == entry(&without, index);
        let link = entry(&before, index).link != entry(&without, index).link;
        assert!(same != uses(&before, index) || link, "{index}");
        moved += usize::from(!same);
        assert!(!uses(&without, index), "{index}");
        assert_eq!(entry(&before, index), entry(&again, index), "{index}");
    }
    assert!((1..30).contains(&moved), "{moved} of 60");
}

fn link(index: u8, state: &str, reason: &str) -> Input {
    Input::LinkChanged(Box::new(v1::LinkEvent {
        node_id: peer(index).node_id,
        state: state.into(),
        reason: reason.into(),
        lane: v1::LinkLane::A.into(),
        measured: None,
    }))
}

#[test]
fn a_lost_relay_changes_the_paths_that_begin_with_it_at_once_and_one_that_comes_back_none() {
    let world = World::default();
    let mut node = start(&world);
    feed(&mut node, Input::DataplaneUp(plane(0)), 1);
    let before =
        table(&feed(&mut node, update(&world.publish(V1, &contents(&world, 20, &[1, 2, 3, 4]), ISSUED)), 1));
    let ways = |table: &v1::ForwardingTable, index: u8| {
        let found = entry(table, index);
        (through(table, &found.primary), through(table, &found.backup))
    };
    feed(&mut node, link(1, "established", ""), 2);
    assert!(names(&feed(&mut node, link(1, "closed", ""), 3)).is_empty(), "nobody tried it");
    let after = table(&feed(&mut node, link(1, "closed", "link.silent"), 4));
    let mut moved = 0;
    for index in 5..=20 {
        let ((primary, backup), now) = (ways(&before, index), ways(&after, index));
        if primary == Some(1) {
            assert_eq!(now.0, backup, "{index}: the backup carries the traffic already");
            moved += 1;
        } else if backup != Some(1) {
            assert_eq!(now, (primary, backup), "{index}");
        }
        assert!(now.0 != Some(1) && now.1 != Some(1), "{index}");
    }
    assert!(moved > 0);
    let again = feed(&mut node, link(1, "established", ""), 5);
    assert!(!names(&again).contains(&"publish"));
}

#[test]
fn a_relay_that_is_measured_to_be_near_is_taken_and_the_paths_say_why() {
    let world = World::default();
    let mut node = start(&world);
    feed(&mut node, Input::DataplaneUp(plane(0)), 1);
    feed(&mut node, update(&world.publish(V1, &contents(&world, 20, &[1, 2, 3]), ISSUED)), 1);
    let far = NodeId::from_slice(&peer(9).node_id).unwrap();
    let decision = node.decision(far).unwrap();
    let near = decision.backup[0];
    let index = near.as_bytes()[0] - 100;
    for second in 2..40 {
        let measured = v1::LinkMeasurement { rtt_median_us: 500, loss_ppm: 0, samples: 15 };
        let event = v1::LinkEvent { measured: Some(measured), ..link_event(index) };
        feed(&mut node, Input::LinkChanged(Box::new(event)), second);
        let stats =
            v1::PeerStats { node_id: near.to_vec(), link_state: "established".into(), ..Default::default() };
        feed(
            &mut node,
            Input::StatsArrived(Box::new(v1::Stats { peers: vec![stats], ..Default::default() })),
            second,
        );
    }
    let now = node.decision(far).unwrap();
    assert_eq!((now.primary, now.why), (vec![near], rap_routing::Why::Better));
    let explained = node.explain(far, rap_routing::Lane::C, &[near], at(40)).unwrap();
    assert_eq!(explained.decision.primary, now.backup, "if it were down");
    assert_eq!(explained.candidates.len(), 3);
    let said = |node: &Node| {
        let explained = node.explain(far, rap_routing::Lane::C, &[], at(41)).unwrap();
        let legs = explained.candidates.iter().flat_map(|candidate| &candidate.legs);
        legs.filter(|leg| leg.source == rap_routing::Source::Said).count()
    };
    assert_eq!(said(&node), 0);
    let links = [1, 2, 3].iter().filter(|other| **other != index).map(|other| v1::RelayLink {
        node: peer(*other).node_id,
        rtt_us: 700,
        loss_ppm: 0,
    });
    let words = v1::RelayWords { relay: near.to_vec(), links: links.collect() };
    feed(&mut node, Input::RelaySaid(Box::new(words)), 41);
    assert!(said(&node) > 0, "what a relay says reaches the engine");
}

fn link_event(index: u8) -> v1::LinkEvent {
    let Input::LinkChanged(event) = link(index, "established", "") else { unreachable!() };
    *event
}

#[test]
fn a_refused_path_is_replaced_at_once_and_kept_when_every_other_one_was_refused_too() {
    let world = World::default();
    let mut node = start(&world);
    feed(&mut node, Input::DataplaneUp(plane(0)), 1);
    let mut now =
        table(&feed(&mut node, update(&world.publish(V1, &contents(&world, 9, &[1, 2]), ISSUED)), 1));
    for relay in [1, 2] {
        feed(&mut node, link(relay, "established", ""), 2);
    }
    let refused = |relays: &[u8], reason: &str| {
        Input::PathRefused(Box::new(v1::PathRefused {
            destination: peer(9).node_id,
            relays: relays.iter().map(|relay| peer(*relay).node_id).collect(),
            reason: reason.into(),
            passed: None,
        }))
    };
    let primary = |table: &v1::ForwardingTable| {
        let path = entry(table, 9).primary.clone().unwrap();
        path.relays.iter().map(|at| table.relays[*at as usize][0] - 100).collect::<Vec<u8>>()
    };
    for (relays, reason) in [
        (primary(&now), "path.generation_stale"),
        (vec![7], "path.next_unreachable"),
        (vec![], "path.next_unreachable"),
    ] {
        assert!(!names(&feed(&mut node, refused(&relays, reason), 3)).contains(&"publish"), "{reason}");
    }
    let mut tried = BTreeSet::new();
    for second in 4..7 {
        let before = primary(&now);
        assert!(tried.insert(before.clone()), "{before:?} was refused a short while ago");
        assert_eq!(before.len(), if second < 6 { 1 } else { 2 }, "those with the least relays first");
        now = table(&feed(&mut node, refused(&before, "path.next_unreachable"), second));
    }
    let last = primary(&now);
    assert!(tried.insert(last.clone()), "{last:?} was refused a short while ago");
    assert!(!names(&feed(&mut node, refused(&last, "path.next_unreachable"), 8)).contains(&"publish"));
    assert_eq!(tried, BTreeSet::from([vec![1], vec![2], vec![1, 2], vec![2, 1]]));
}
