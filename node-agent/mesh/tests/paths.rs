//! Paths over real links: installed, carried through relays, replaced when a relay dies, refused.

mod support;

use std::collections::BTreeMap;

use rap_link::FEATURE_FABRIC;
use rap_mesh::{
    Carries, Dial, KnownEnd, Mesh, PathEnd, PathEvent, PathPlan, PathSlot, PathTerms, Peer, Peers,
};
use rap_types::{Mono, NodeId, Reason};
use support::*;
use tokio::sync::mpsc::Receiver;

const A: u8 = 1;
const B: u8 = 2;
const RELAYS: [u8; 4] = [101, 102, 103, 104];

/// A node with its events of paths.
struct Member {
    node: Node,
    events: Receiver<PathEvent>,
}

impl Member {
    fn start(authority: &Authority, number: u8) -> Self {
        let node = Node::start(authority, config(number));
        let events = node.mesh.path_events().unwrap();
        assert!(node.mesh.path_events().is_none(), "one reader");
        Self { node, events }
    }

    fn mesh(&self) -> &Mesh {
        &self.node.mesh
    }

    /// Events until one fits.
    async fn until<T>(&mut self, wanted: impl Fn(&PathEvent) -> Option<T>) -> T {
        patiently(async {
            loop {
                let event = self.events.recv().await.unwrap();
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        })
        .await
    }

    async fn up(&mut self, wanted: PathSlot) -> PathEnd {
        self.until(|event| match event {
            PathEvent::Up { end, slot, .. } if *slot == wanted => Some(*end),
            _ => None,
        })
        .await
    }

    async fn datagram(&mut self) -> (PathEnd, Vec<u8>) {
        self.until(|event| match event {
            PathEvent::Received { end, datagram, .. } => Some((*end, datagram.to_vec())),
            _ => None,
        })
        .await
    }

    fn refused(&self, reason: Reason) -> u64 {
        self.node.refused(reason)
    }
}

fn known(numbers: &[u8]) -> BTreeMap<NodeId, KnownEnd> {
    let end = KnownEnd { organization: None, deadline: Mono(u64::MAX) };
    numbers.iter().map(|number| (node(*number), end)).collect()
}

fn terms(numbers: &[u8], is_relay: bool) -> PathTerms {
    let carries = is_relay.then_some(Carries { any_organization: true, draining: false });
    let known = known(numbers);
    PathTerms { organization: None, carries, lifetime_s: 40, instance: 1, deadline: Mono(u64::MAX), known }
}

/// Members who may link with everybody; plain nodes dial relays, relays dial each other when a path needs it.
fn network(authority: &Authority, numbers: &[u8]) -> BTreeMap<u8, Member> {
    let members: BTreeMap<u8, Member> =
        numbers.iter().map(|number| (*number, Member::start(authority, *number))).collect();
    for (number, member) in &members {
        let peers = members.iter().filter(|(other, _)| *other != number).map(|(other, there)| {
            let wants = *number < 100 && *other >= 100;
            let dialable = *other >= 100;
            let peer = Peer {
                endpoints: if dialable { vec![there.node.address()] } else { vec![] },
                deadline: Mono(u64::MAX),
                dial: if wants { Dial::AtOnce } else { Dial::OnDemand },
            };
            (node(*other), peer)
        });
        let peers = Peers {
            peers: peers.collect(),
            trust: authority.trust(&[]),
            newest_head: vec![],
            probe_interval: None,
            former: None,
        };
        member.mesh().apply(peers);
        member.mesh().set_paths(terms(numbers, *number >= 100), vec![]);
    }
    members
}

fn plan(to: u8, primary: &[u8], backup: Option<&[u8]>) -> Vec<PathPlan> {
    let relays = |relays: &[u8]| relays.iter().copied().map(node).collect::<Vec<_>>();
    vec![PathPlan { destination: node(to), primary: relays(primary), backup: backup.map(relays) }]
}

fn want(member: &Member, numbers: &[u8], plans: Vec<PathPlan>) {
    member.mesh().set_paths(terms(numbers, false), plans);
    member.mesh().want_path(node(B)).unwrap();
}

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
