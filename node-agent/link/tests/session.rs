//! Session: hello, permits, goodbye, and what is refused.

mod support;

use prost::Message as _;
use rap_link::{
    Frame, FrameKind, Input, Lane, Link, Local, Output, PeerIdentity, Permit, SessionState, Side, Timing,
};
use rap_types::{ChannelClass, ClusterId, NodeId, Reason};
use rap_wire::v1;
use support::*;

fn hello() -> v1::LinkHello {
    v1::LinkHello {
        protocol_min: 1,
        protocol_max: 1,
        lane: v1::LinkLane::A as i32,
        session_id: SESSION.to_vec(),
        features: vec![],
        newest_head: vec![],
    }
}

/// An acceptor that proved its peer and then got this hello.
fn greeted(hello: &v1::LinkHello) -> Link {
    let mut link = acceptor();
    link.handle(Input::Authenticated { peer: identity(SMALL), permit: LONG }, START).unwrap();
    link.receive(&wire(FrameKind::Hello, hello.encode_to_vec()), START);
    link
}

#[test]
fn two_nodes_exchange_hellos_and_learn_each_others_head() {
    let (mut a, mut b) = (dialer(), acceptor());
    meet(&mut a, &mut b);
    for (link, peer) in [(&mut a, LARGE), (&mut b, SMALL)] {
        assert_eq!(link.state(), SessionState::Established);
        assert_eq!(link.peer(), Some(peer));
        let [Output::Established(hello)] = &outputs(link)[..] else { panic!("one output") };
        assert_eq!((hello.protocol, hello.session_id), (1, SESSION));
        assert_eq!(hello.newest_head, vec![7; 40]);
        assert_eq!(hello.features, ["probe", rap_link::FEATURE_FABRIC]);
    }
    assert_eq!(a.counters().bytes_sent, b.counters().bytes_received);
    assert!(a.counters().frames_sent > 0 && b.counters().rejected.is_empty());
}

#[test]
fn a_newer_peer_settles_on_the_common_protocol_and_a_foreign_one_is_refused() {
    let newer = greeted(&v1::LinkHello { protocol_max: 9, ..hello() });
    assert_eq!(newer.state(), SessionState::Established);
    for (protocol_min, protocol_max) in [(2, 9), (0, 0), (3, 1)] {
        let refused = greeted(&v1::LinkHello { protocol_min, protocol_max, ..hello() });
        assert_eq!(refused.reason(), Some(Reason::LinkVersion), "{protocol_min}..{protocol_max}");
    }
}

#[test]
fn a_bad_hello_is_refused_with_a_code_and_counted() {
    let cases = [
        (v1::LinkHello { session_id: vec![1; 15], ..hello() }, Reason::LinkFrameMalformed),
        (v1::LinkHello { newest_head: vec![0; 32 * 1024 + 1], ..hello() }, Reason::LinkFrameTooLarge),
        (v1::LinkHello { features: vec![String::new(); 33], ..hello() }, Reason::LinkFrameTooLarge),
        (v1::LinkHello { features: vec!["f".repeat(65)], ..hello() }, Reason::LinkFrameTooLarge),
        (v1::LinkHello { lane: 0, ..hello() }, Reason::LinkState),
        (v1::LinkHello { lane: 4, ..hello() }, Reason::LinkState),
    ];
    for (hello, reason) in cases {
        let mut link = greeted(&hello);
        assert_eq!((link.state(), link.reason()), (SessionState::Closed, Some(reason)));
        assert_eq!(link.counters().rejected.get(&reason), Some(&1));
        assert_eq!(outputs(&mut link), [Output::Closed(reason)]);
        assert!(!bytes(&mut link).is_empty(), "the peer is told why");
    }
}

#[test]
fn an_answer_to_another_session_or_lane_is_refused() {
    let others = [
        v1::LinkHello { session_id: vec![6; 16], ..hello() },
        v1::LinkHello { lane: v1::LinkLane::B as i32, ..hello() },
    ];
    for other in others {
        let mut link = dialer();
        link.handle(Input::Opened, START).unwrap();
        link.handle(Input::Authenticated { peer: identity(LARGE), permit: LONG }, START).unwrap();
        link.receive(&wire(FrameKind::Hello, other.encode_to_vec()), START);
        assert_eq!(link.reason(), Some(Reason::LinkState));
    }
}

#[test]
fn the_dialling_side_names_the_lane_and_the_other_answers_with_it() {
    for lane in [Lane::A, Lane::B, Lane::C] {
        let side = Side::Dialer { expected: LARGE, session_id: SESSION, lane };
        let (mut a, mut b) = (Link::new(local(SMALL), side, Timing::default(), START), acceptor());
        a.handle(Input::Opened, START).unwrap();
        a.handle(Input::Authenticated { peer: identity(LARGE), permit: LONG }, START).unwrap();
        b.handle(Input::Authenticated { peer: identity(SMALL), permit: LONG }, START).unwrap();
        exchange(&mut a, &mut b, START);
        for link in [&mut a, &mut b] {
            let [Output::Established(hello)] = &outputs(link)[..] else { panic!("one output") };
            assert_eq!(hello.lane, lane);
        }
    }
}

#[test]
fn another_node_another_cluster_and_oneself_are_refused() {
    let strangers = [
        PeerIdentity { cluster: CLUSTER, node: NodeId::from_bytes([3; 16]) },
        PeerIdentity { cluster: ClusterId::from_bytes([8; 16]), node: LARGE },
        PeerIdentity { cluster: CLUSTER, node: SMALL },
    ];
    for peer in strangers {
        let mut link = dialer();
        link.handle(Input::Opened, START).unwrap();
        link.handle(Input::Authenticated { peer, permit: LONG }, START).unwrap();
        assert_eq!(link.reason(), Some(Reason::CertificateIdentity));
    }
}

#[test]
fn a_peer_outside_the_table_or_past_its_deadline_is_told_and_closed() {
    let cases = [
        (Permit::Denied(Reason::LinkPeerUnknown), Reason::LinkPeerUnknown),
        (Permit::Until(START.mono), Reason::LinkPermitExpired),
    ];
    for (permit, reason) in cases {
        let mut b = acceptor();
        b.handle(Input::Authenticated { peer: identity(SMALL), permit }, START).unwrap();
        assert_eq!(b.reason(), Some(reason));
        let mut a = dialer();
        a.handle(Input::Opened, START).unwrap();
        a.handle(Input::Authenticated { peer: identity(LARGE), permit: LONG }, START).unwrap();
        a.receive(&bytes(&mut b), START);
        assert_eq!((a.state(), a.reason()), (SessionState::Closed, Some(reason)));
    }
}

#[test]
fn drain_says_goodbye_and_ends_on_the_peers_close_or_the_deadline() {
    let (mut a, mut b) = pair();
    a.handle(Input::DrainAsked(Reason::LinkDrained), START).unwrap();
    assert_eq!((a.state(), a.reason()), (SessionState::Draining, Some(Reason::LinkDrained)));
    b.receive(&bytes(&mut a), START);
    assert_eq!((b.state(), b.reason()), (SessionState::Closed, Some(Reason::LinkDrained)));
    run_until(&mut a, after(Timing::default().drain));
    assert_eq!(a.state(), SessionState::Closed);
    assert_eq!(outputs(&mut a), [Output::Closed(Reason::LinkDrained)]);
}

#[test]
fn revocation_closes_at_once_and_says_nothing_to_the_peer() {
    let (mut a, _b) = pair();
    a.handle(Input::PermitChanged(Permit::Denied(Reason::NodeRevoked)), START).unwrap();
    assert_eq!((a.state(), a.reason()), (SessionState::Closed, Some(Reason::NodeRevoked)));
    assert!(bytes(&mut a).is_empty());
}

#[test]
fn the_permits_deadline_closes_and_an_extension_moves_it() {
    let (mut a, mut b) = pair();
    let soon = Permit::Until(after(seconds(1)).mono);
    a.handle(Input::PermitChanged(soon), START).unwrap();
    b.handle(Input::PermitChanged(soon), START).unwrap();
    b.handle(Input::PermitChanged(LONG), START).unwrap();
    run_until(&mut a, after(seconds(1)));
    run_until(&mut b, after(seconds(1)));
    assert_eq!(a.reason(), Some(Reason::LinkPermitExpired));
    assert_eq!(b.state(), SessionState::Established);
}

#[test]
fn a_handshake_that_does_not_end_is_dropped_at_its_deadline() {
    let mut dialing = dialer();
    run_until(&mut dialing, after(seconds(5)));
    assert_eq!(dialing.reason(), Some(Reason::LinkUnreachable));
    let mut handshaking = acceptor();
    run_until(&mut handshaking, after(seconds(5)));
    assert_eq!(handshaking.reason(), Some(Reason::LinkHandshakeTimeout));
    let mut silent = acceptor();
    silent.handle(Input::Authenticated { peer: identity(SMALL), permit: LONG }, START).unwrap();
    run_until(&mut silent, after(seconds(5)));
    assert_eq!(silent.reason(), Some(Reason::LinkHandshakeTimeout));
}

#[test]
fn bytes_that_are_no_frames_close_with_their_code_and_say_so() {
    let (mut a, mut b) = pair();
    let mut oversized = wire(FrameKind::Probe, vec![]);
    oversized[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    b.receive(&oversized, START);
    assert_eq!((b.state(), b.reason()), (SessionState::Closed, Some(Reason::LinkFrameTooLarge)));
    assert_eq!(b.counters().rejected.get(&Reason::LinkFrameTooLarge), Some(&1));
    a.receive(&bytes(&mut b), START);
    assert_eq!(a.reason(), Some(Reason::LinkFrameTooLarge));
}

#[test]
fn a_second_hello_and_flow_data_are_refused() {
    for kind in [FrameKind::Hello, FrameKind::Data] {
        let (_a, mut b) = pair();
        b.receive(&wire(kind, hello().encode_to_vec()), START);
        assert_eq!(b.reason(), Some(Reason::LinkState), "{kind:?}");
        assert_eq!(b.counters().rejected.get(&Reason::LinkState), Some(&1));
    }
}

#[test]
fn an_unknown_goodbye_reads_as_a_plain_close() {
    let (_a, mut b) = pair();
    let bye = v1::LinkBye { reason: "from.the_future".into() };
    b.receive(&wire(FrameKind::Bye, bye.encode_to_vec()), START);
    assert_eq!(b.reason(), Some(Reason::LinkClosed));
    assert!(b.counters().rejected.is_empty());
}

#[test]
fn the_side_that_dials_is_outbound() {
    let side = Side::Dialer { expected: LARGE, session_id: SESSION, lane: Lane::A };
    assert_eq!(side.direction(), rap_link::Direction::Outbound);
    assert_eq!(Side::Acceptor.direction(), rap_link::Direction::Inbound);
}

#[test]
fn what_belongs_to_paths_passes_between_two_sides_that_know_it() {
    let (mut a, mut b) = pair();
    let data = Frame::labelled(ChannelClass::Vpn, 7, 2, b"sealed".to_vec());
    let fault = Frame::local(ChannelClass::Control, FrameKind::PathFault, b"fault".to_vec());
    for frame in [data, fault] {
        a.handle(Input::SendAsked(frame.clone()), START).unwrap();
        exchange(&mut a, &mut b, START);
        assert_eq!(outputs(&mut b), [Output::Received(frame)]);
    }
    let hello = Frame::local(ChannelClass::Control, FrameKind::Hello, vec![]);
    assert!(
        a.handle(Input::SendAsked(hello), START).is_err(),
        "what belongs to the link is not sent for others"
    );
}

#[test]
fn nothing_of_paths_is_sent_to_or_taken_from_a_peer_without_the_feature() {
    let old = Local { features: vec![], ..local(LARGE) };
    let (mut a, mut b) = (dialer(), Link::new(old, Side::Acceptor, Timing::default(), START));
    meet(&mut a, &mut b);
    let data = Frame::labelled(ChannelClass::Vpn, 7, 2, b"sealed".to_vec());
    let refused = a.handle(Input::SendAsked(data.clone()), START).unwrap_err();
    assert_eq!(refused.reason(), Reason::LinkState);
    assert!(bytes(&mut a).is_empty());
    let mut wire = Vec::new();
    data.encode(&mut wire).unwrap();
    a.receive(&wire, START);
    assert_eq!(a.reason(), Some(Reason::LinkState));
}
