//! Data goes over a lane of its own, opened by the side that dialled and closed again.

mod support;

use std::time::Duration;

use rap_link::{FEATURE_FABRIC, FEATURE_LANES, Frame, Lane, SessionState};
use rap_mesh::{LinkStatus, PathSlot};
use rap_types::{ChannelClass, NodeId, Reason};
use support::members::*;
use support::*;
use tokio::net::TcpStream;

const RELAY: u8 = RELAYS[0];

fn lane_of(node: &Node, peer: NodeId, lane: Lane) -> Option<LinkStatus> {
    node.mesh.links().into_iter().find(|link| (link.peer, link.lane) == (peer, lane))
}

fn is_up(node: &Node, peer: NodeId, lane: Lane) -> bool {
    node.lane(peer, lane) == Some(SessionState::Established)
}

#[tokio::test]
async fn data_goes_over_lane_c_and_messages_over_lane_a_whoever_sends_first() {
    let authority = Authority::new(HOME);
    let numbers = [A, B, RELAY];
    let mut members = network(&authority, &numbers);
    let (mut a, mut b) = (members.remove(&A).unwrap(), members.remove(&B).unwrap());
    let relay = members.remove(&RELAY).unwrap();
    want(&a, &numbers, plan(B, &[RELAY], None));
    let (there, here) = (a.up(PathSlot::Primary).await, b.up(PathSlot::Answering).await);
    for member in [&a, &b] {
        assert_eq!(member.node.lane(node(RELAY), Lane::C), None, "nothing needs it yet");
    }
    // Both ends dialled the relay, so the relay asks for lane C towards B, and A opens its own.
    a.mesh().send_on_path(there, &[7; 1300]).unwrap();
    assert_eq!(b.datagram().await, (here, vec![7; 1300]));
    let sent = |member: &Member, lane| {
        lane_of(&member.node, node(RELAY), lane).map_or(0, |link| link.counters.bytes_sent)
    };
    let before = [sent(&a, Lane::A), sent(&b, Lane::A)];
    for _ in 0..100 {
        a.mesh().send_on_path(there, &[7; 1300]).unwrap();
        a.mesh().send_on_path(there, &[8; 1300]).unwrap();
        while b.datagram().await.1 != [8; 1300] {}
        b.mesh().send_on_path(here, &[9; 1300]).unwrap();
        a.datagram().await;
    }
    eventually("lane C of A carried it", || sent(&a, Lane::C) > 200 * 1300).await;
    eventually("lane C of B carried it", || sent(&b, Lane::C) > 100 * 1300).await;
    let after = [sent(&a, Lane::A), sent(&b, Lane::A)];
    assert!(after.iter().zip(before).all(|(after, before)| after - before < 1300), "{before:?} {after:?}");
    assert!(is_up(&relay.node, node(A), Lane::C) && is_up(&relay.node, node(B), Lane::C));
    assert_eq!(relay.node.lane(node(A), Lane::B), None, "nothing needs lane B");
    let control = |lane| lane_of(&relay.node, node(B), lane).and_then(|link| link.congestion);
    let known = ["bbr".to_owned(), "cubic".to_owned()];
    assert!(control(Lane::C).is_some_and(|name| known.contains(&name)), "{:?}", control(Lane::C));
    assert_eq!(control(Lane::A), None);

    // The lanes end with lane A.
    relay.node.stop().await;
    eventually("gone", || a.node.lane(node(RELAY), Lane::C).is_none()).await;
}

#[tokio::test]
async fn a_lane_without_data_ends_and_the_next_data_opens_it() {
    let authority = Authority::new(HOME);
    let numbers = [A, B, RELAY];
    let mut members = network_with(&authority, &numbers, |number| {
        let mut config = config(number);
        config.timing.lane_idle = Duration::from_millis(300);
        config
    });
    let (mut a, mut b) = (members.remove(&A).unwrap(), members.remove(&B).unwrap());
    want(&a, &numbers, plan(B, &[RELAY], None));
    let (there, here) = (a.up(PathSlot::Primary).await, b.up(PathSlot::Answering).await);
    for round in 0..3 {
        a.mesh().send_on_path(there, &[round]).unwrap();
        assert_eq!(b.datagram().await, (here, vec![round]));
        eventually("idle", || [&a, &b].iter().all(|end| end.node.lane(node(RELAY), Lane::C).is_none())).await;
        assert!(a.node.is_linked(node(RELAY)), "lane A stays");
    }
}

#[tokio::test]
async fn a_peer_of_the_release_before_gets_everything_over_lane_a() {
    let authority = Authority::new(HOME);
    let numbers = [A, B, RELAY];
    let mut members = network_with(&authority, &numbers, |number| {
        let mut config = config(number);
        if number == B {
            config.features.retain(|feature| feature != FEATURE_LANES);
        }
        config
    });
    let (mut a, mut b) = (members.remove(&A).unwrap(), members.remove(&B).unwrap());
    want(&a, &numbers, plan(B, &[RELAY], None));
    let (there, here) = (a.up(PathSlot::Primary).await, b.up(PathSlot::Answering).await);
    a.mesh().send_on_path(there, b"down").unwrap();
    assert_eq!(b.datagram().await, (here, b"down".to_vec()));
    b.mesh().send_on_path(here, b"up").unwrap();
    assert_eq!(a.datagram().await, (there, b"up".to_vec()));
    assert_eq!(b.node.lane(node(RELAY), Lane::C), None);
    assert!(is_up(&a.node, node(RELAY), Lane::C), "between the two that know lanes");
}

/// A node that a puppet with both features dialled, and the puppet.
async fn with_puppet(authority: &Authority) -> (Node, Puppet) {
    let target = Node::start(authority, config(2));
    target.mesh.apply(peers(authority, &[(node(1), None)]));
    let puppet = lane_puppet(authority, &target, Lane::A).await;
    eventually("linked", || target.is_linked(node(1))).await;
    (target, puppet)
}

async fn lane_puppet(authority: &Authority, target: &Node, lane: Lane) -> Puppet {
    let mut puppet = silent_puppet(authority, 1, target, lane).await;
    puppet.say_hello().await;
    puppet
}

async fn silent_puppet(authority: &Authority, number: u8, target: &Node, lane: Lane) -> Puppet {
    let tcp = TcpStream::connect(target.address()).await.unwrap();
    let features = [FEATURE_FABRIC, FEATURE_LANES];
    Puppet::connect_with(authority, number, target, tcp, lane, &features).await
}

/// Why the target ends lane C of this node.
async fn refused(authority: &Authority, number: u8, target: &Node) -> Option<Reason> {
    let mut puppet = silent_puppet(authority, number, target, Lane::C).await;
    puppet.write().await;
    puppet.read_until(SessionState::Closed).await;
    puppet.link.reason()
}

/// Writes a frame that the session of the puppet would not send.
async fn force(puppet: &mut Puppet, frame: &Frame) {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    puppet.write_raw(&bytes).await;
}

#[tokio::test]
async fn a_class_on_the_wrong_lane_ends_that_connection_and_no_other() {
    let authority = Authority::new(HOME);
    let (target, mut a) = with_puppet(&authority).await;
    let mut c = lane_puppet(&authority, &target, Lane::C).await;
    eventually("both", || is_up(&target, node(1), Lane::C)).await;
    force(&mut c, &Frame::labelled(ChannelClass::Input, 7, 2, vec![1])).await;
    c.read_until(SessionState::Closed).await;
    assert_eq!(c.link.reason(), Some(Reason::LinkLane));
    eventually("counted", || target.refused(Reason::LinkLane) == 1).await;
    assert!(target.is_linked(node(1)), "lane A goes on");

    force(&mut a, &Frame::labelled(ChannelClass::Vpn, 7, 2, vec![1])).await;
    a.read_until(SessionState::Closed).await;
    assert_eq!(a.link.reason(), Some(Reason::LinkLane), "bulk does not hide on lane A");
}

#[tokio::test]
async fn a_lane_without_its_lane_a_or_of_another_session_is_refused() {
    let authority = Authority::new(HOME);
    let target = Node::start(&authority, config(2));
    target.mesh.apply(peers(&authority, &[(node(1), None)]));
    assert_eq!(refused(&authority, 1, &target).await, Some(Reason::LinkState));

    // The target dialled this link itself: lanes come from there.
    let other = Node::start(&authority, config(3));
    other.mesh.apply(peers(&authority, &[(target.id, None)]));
    target.mesh.apply(peers(&authority, &[(node(1), None), (other.id, Some(other.address()))]));
    eventually("linked", || target.is_linked(other.id)).await;
    assert_eq!(refused(&authority, 3, &target).await, Some(Reason::LinkState));
    assert!(target.is_linked(other.id) && target.lane(other.id, Lane::C).is_none());
}
