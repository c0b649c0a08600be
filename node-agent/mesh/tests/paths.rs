//! Paths over real links: installed, carried through relays, replaced when a relay dies, refused.

mod support;

use std::collections::BTreeMap;

use rap_link::FEATURE_FABRIC;
use rap_mesh::{Dial, PathEvent, PathSlot, Peer, Peers};
use rap_types::{Mono, Reason};
use support::members::*;
use support::*;

#[tokio::test]
async fn data_passes_two_relays_both_ways_and_a_relay_that_dies_is_replaced_by_the_backup() {
    let authority = Authority::new(HOME);
    let numbers = [A, B, RELAYS[0], RELAYS[1], RELAYS[2], RELAYS[3]];
    let mut members = network(&authority, &numbers);
    let (mut a, mut b) = (members.remove(&A).unwrap(), members.remove(&B).unwrap());
    assert_eq!(a.mesh().want_path(node(B)), Err(Reason::PathUnknown), "nothing is planned");
    // Links between relays are made when the first request needs them.
    want(&a, &numbers, plan(B, &[RELAYS[0], RELAYS[1]], Some(&[RELAYS[2], RELAYS[3]])));
    let primary = a.up(PathSlot::Primary).await;
    let answering = b.up(PathSlot::Answering).await;
    let backup = a.up(PathSlot::Backup).await;
    assert_eq!(a.mesh().send_on_path(primary, b"there"), Ok(()));
    assert_eq!(b.datagram().await, (answering, b"there".to_vec()));
    assert_eq!(b.mesh().send_on_path(answering, b"and back"), Ok(()));
    assert_eq!(a.datagram().await, (primary, b"and back".to_vec()));
    let relays: Vec<_> = a.mesh().paths().into_iter().map(|view| view.relays).collect();
    assert_eq!(relays, [[node(RELAYS[0]), node(RELAYS[1])], [node(RELAYS[2]), node(RELAYS[3])]]);
    assert!(!a.node.is_linked(node(B)), "the ends have no link of their own");
    assert_eq!(a.mesh().send_on_path(primary, &[]), Err(Reason::PathMalformed));

    members.remove(&RELAYS[0]).unwrap().node.tasks.token().cancel();
    let ended = a.until(|event| match event {
        PathEvent::Down { end, reason } if *end == primary => Some(*reason),
        _ => None,
    });
    assert_eq!(ended.await, Reason::PathNextUnreachable);
    assert_eq!(a.mesh().send_on_path(primary, b"late"), Err(Reason::PathUnknown));
    assert_eq!(a.mesh().send_on_path(backup, b"by the other"), Ok(()));
    assert_eq!(b.datagram().await.1, b"by the other");
}

#[tokio::test]
async fn many_datagrams_through_a_relay_arrive_in_order_or_are_counted() {
    let authority = Authority::new(HOME);
    let numbers = [A, B, RELAYS[0]];
    let mut members = network(&authority, &numbers);
    let (mut a, mut b) = (members.remove(&A).unwrap(), members.remove(&B).unwrap());
    want(&a, &numbers, plan(B, &[RELAYS[0]], None));
    let (here, there) = (a.up(PathSlot::Primary).await, b.up(PathSlot::Answering).await);
    let mut sent = 0_u64;
    let mut last = None;
    // Both directions at once, so that every queue of the relay is filled from two sides.
    while last != Some(4_999) {
        if sent < 5_000 {
            let mut datagram = vec![0; 1_300];
            datagram[..8].copy_from_slice(&sent.to_be_bytes());
            match a.mesh().send_on_path(here, &datagram) {
                Ok(()) => sent += 1,
                Err(reason) => assert_eq!(reason, Reason::LinkQueueFull),
            }
            let _full = b.mesh().send_on_path(there, &datagram);
        } else {
            // The last one may have been dropped on the way.
            let _full = a.mesh().send_on_path(here, &4_999_u64.to_be_bytes());
        }
        tokio::task::yield_now().await;
        while let Ok(event) = b.events.try_recv() {
            if let PathEvent::Received { datagram, .. } = event {
                let number = u64::from_be_bytes(*datagram.first_chunk().unwrap());
                assert!(last.is_none_or(|last| number >= last), "{number} after {last:?}");
                last = Some(number);
            }
        }
        while a.events.try_recv().is_ok() {}
    }
    assert!(a.node.is_linked(node(RELAYS[0])) && b.node.is_linked(node(RELAYS[0])));
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_with_its_code_and_others_go_on() {
    let authority = Authority::new(HOME);
    let numbers = [A, B, 3, RELAYS[0], RELAYS[1]];
    let mut members = network(&authority, &numbers);
    let (mut a, mut b) = (members.remove(&A).unwrap(), members.remove(&B).unwrap());
    want(&a, &numbers, plan(B, &[RELAYS[0]], None));
    let (here, _) = (a.up(PathSlot::Primary).await, b.up(PathSlot::Answering).await);

    let refusal = |event: &PathEvent| match event {
        PathEvent::Refused { reason, .. } => Some(*reason),
        _ => None,
    };
    let mut c = members.remove(&3).unwrap();
    let relay = &members[&RELAYS[0]];
    relay.mesh().set_paths(terms(&[A, B], true), vec![]);
    want(&c, &numbers, plan(B, &[RELAYS[0]], None));
    assert_eq!(c.until(refusal).await, Reason::RelayUnknownEnd);
    relay.mesh().set_paths(terms(&numbers, false), vec![]);
    let gone = a.until(|event| match event {
        PathEvent::Down { end, reason } if *end == here => Some(*reason),
        _ => None,
    });
    assert_eq!(gone.await, Reason::PathDenied, "the relay carries nothing any more");
    assert_eq!(a.until(refusal).await, Reason::RelayNotAllowed);
    assert!(relay.refused(Reason::RelayNotAllowed) > 0 && relay.refused(Reason::RelayUnknownEnd) > 0);

    relay.mesh().set_paths(terms(&numbers, true), vec![]);
    let again = a.up(PathSlot::Primary).await;
    assert_eq!(a.mesh().send_on_path(again, b"on"), Ok(()));
    assert_eq!(b.datagram().await.1, b"on");
    assert!(relay.node.is_linked(node(A)), "a refusal ends no link");
}

#[tokio::test]
async fn a_revoked_source_loses_its_path_at_every_hop() {
    let authority = Authority::new(HOME);
    let numbers = [A, B, RELAYS[0]];
    let mut members = network(&authority, &numbers);
    let (mut a, mut b) = (members.remove(&A).unwrap(), members.remove(&B).unwrap());
    want(&a, &numbers, plan(B, &[RELAYS[0]], None));
    let (_, there) = (a.up(PathSlot::Primary).await, b.up(PathSlot::Answering).await);
    let relay = &members[&RELAYS[0]];
    let peers = Peers {
        peers: BTreeMap::from([(
            node(RELAYS[0]),
            Peer { endpoints: vec![relay.node.address()], deadline: Mono(u64::MAX), dial: Dial::AtOnce },
        )]),
        trust: authority.trust(&[(node(A), 1)]),
        newest_head: vec![],
        probe_interval: None,
        former: None,
    };
    b.mesh().apply(peers);
    let ended = b.until(|event| match event {
        PathEvent::Down { end, reason } if *end == there => Some(*reason),
        _ => None,
    });
    assert_eq!(ended.await, Reason::NodeRevoked);
}

#[tokio::test]
async fn a_peer_that_knows_no_paths_keeps_its_link_and_gets_none() {
    let authority = Authority::new(HOME);
    let old = rap_mesh::MeshConfig { features: vec![], ..config(B) };
    let (a, b) = linked_with(&authority, config(A), old).await;
    assert!(config(A).features.iter().any(|feature| feature == FEATURE_FABRIC));
    let mut events = a.mesh.path_events().unwrap();
    a.mesh.set_paths(terms(&[A, B], false), plan(B, &[], None));
    a.mesh.want_path(b.id).unwrap();
    let refused = patiently(events.recv()).await.unwrap();
    assert!(matches!(refused, PathEvent::Refused { reason: Reason::PathNextUnreachable, .. }), "{refused:?}");
    assert!(a.is_linked(b.id) && b.is_linked(a.id));
}
