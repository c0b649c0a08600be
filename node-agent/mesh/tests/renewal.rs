//! The certificate of a node is renewed while its links carry data.

mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rap_link::{Lane, SessionState};
use rap_mesh::{Mesh, PathEnd, PathEvent, PathSlot};
use rap_runtime::Clock;
use rap_types::{Mono, NodeId, Reason};
use support::members::*;
use support::*;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

const RELAY: u8 = RELAYS[0];

/// Sends one numbered datagram per millisecond until `stop`, and returns how many.
async fn send(mesh: &Mesh, end: PathEnd, stop: &CancellationToken) -> u64 {
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    let mut sent = 0_u64;
    while !stop.is_cancelled() {
        tick.tick().await;
        mesh.send_on_path(end, &sent.to_be_bytes()).unwrap();
        sent += 1;
    }
    sent
}

type Arrived = Arc<Mutex<BTreeSet<u64>>>;

/// Collects the numbers of the datagrams that arrive. A number may not arrive twice, and no path may end.
async fn collect(mut events: Receiver<PathEvent>, arrived: Arrived) {
    while let Some(event) = events.recv().await {
        match event {
            PathEvent::Received { datagram, .. } => {
                let number = u64::from_be_bytes(datagram[..].try_into().unwrap());
                assert!(arrived.lock().unwrap().insert(number), "{number} came twice");
            }
            PathEvent::Down { reason, .. } => panic!("a path ended: {reason:?}"),
            PathEvent::Up { .. } | PathEvent::Refused { .. } => {}
        }
    }
}

fn renew(authority: &Authority, node: &Node) {
    let (chain, key) = authority.leaf(node.id, 1, Duration::from_secs(3600));
    node.mesh.identify(chain, key).unwrap();
}

fn since(node: &Node, peer: NodeId) -> Mono {
    node.status(peer).unwrap().since
}

/// What a queue dropped because the machine was slow.
fn shed(node: &Node) -> u64 {
    let of_links = node.mesh.links().into_iter();
    let of_links = of_links.filter_map(|link| link.counters.dropped.get(&Reason::LinkQueueDelay).copied());
    node.refused(Reason::LinkQueueDelay) + of_links.sum::<u64>()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_in_either_direction_while_each_node_of_a_path_renews_its_certificate() {
    let authority = Authority::new(HOME);
    let numbers = [A, B, RELAY];
    let mut members = network(&authority, &numbers);
    let (mut a, mut b) = (members.remove(&A).unwrap(), members.remove(&B).unwrap());
    let relay = members.remove(&RELAY).unwrap().node;
    want(&a, &numbers, plan(B, &[RELAY], None));
    let (there, here) = (a.up(PathSlot::Primary).await, b.up(PathSlot::Answering).await);
    let stop = CancellationToken::new();
    let (from_a, from_b) = (Arrived::default(), Arrived::default());
    let (to_b, to_a) = (collect(b.events, from_a.clone()), collect(a.events, from_b.clone()));
    let (a, b) = (a.node, b.node);
    let carried = |of: &Arrived| of.lock().unwrap().len();
    // Both ends dialled the relay: it must ask both of them.
    let renewals = async {
        for node in [&a, &relay, &b] {
            let ends = [&a, &b].into_iter().filter(|end| node.id == relay.id || end.id == node.id);
            let before: Vec<_> = ends.map(|end| (end, since(end, relay.id), since(&relay, end.id))).collect();
            renew(&authority, node);
            eventually("made anew", || {
                before.iter().all(|(end, here, there)| {
                    since(end, relay.id) != *here
                        && since(&relay, end.id) != *there
                        && end.is_linked(relay.id)
                })
            })
            .await;
            // The connections before end meanwhile: they are read for 2 s.
            let so_far = (carried(&from_a), carried(&from_b));
            eventually("data goes on", || {
                carried(&from_a) > so_far.0 + 3000 && carried(&from_b) > so_far.1 + 3000
            })
            .await;
            for end in [&a, &b] {
                assert_eq!(end.lane(relay.id, Lane::C), Some(SessionState::Established));
            }
        }
        stop.cancel();
    };
    let run = async {
        let sending = (send(&a.mesh, there, &stop), send(&b.mesh, here, &stop));
        let (sent_a, sent_b, ()) = tokio::join!(sending.0, sending.1, renewals);
        eventually("all arrived, or a queue says that it was too slow", || {
            let slow: u64 = [&a, &b, &relay].into_iter().map(shed).sum();
            carried(&from_a) as u64 + slow >= sent_a && carried(&from_b) as u64 + slow >= sent_b
        })
        .await;
    };
    tokio::select! {
        () = run => {}
        () = to_b => panic!("events of B ended"),
        () = to_a => panic!("events of A ended"),
    }
}

#[tokio::test]
async fn a_link_outlives_the_leaf_that_it_began_with() {
    let authority = Authority::new(HOME);
    let (dialler, other) = (Node::start(&authority, config(1)), Node::start(&authority, config(2)));
    let life = Duration::from_secs(6);
    // The dialled side asks; the other dials by itself.
    for node in [&dialler, &other] {
        let (chain, key) = authority.leaf(node.id, 1, life);
        node.mesh.identify(chain, key).unwrap();
    }
    let end = Clock::new().now().mono.plus(life + Duration::from_secs(1));
    other.mesh.apply(peers(&authority, &[(dialler.id, None)]));
    dialler.mesh.apply(peers(&authority, &[(other.id, Some(other.address()))]));
    eventually("linked", || dialler.is_linked(other.id) && other.is_linked(dialler.id)).await;
    for node in [&dialler, &other] {
        let before = since(&dialler, other.id);
        renew(&authority, node);
        eventually("made anew", || since(&dialler, other.id) != before).await;
    }
    let renewed = since(&dialler, other.id);
    eventually("both first leaves ended", || {
        assert!(dialler.is_linked(other.id) && other.is_linked(dialler.id));
        Clock::new().now().mono > end
    })
    .await;
    assert_eq!(since(&dialler, other.id), renewed, "made anew once for each leaf");
}
