//! Lanes: which frames a connection takes, who asks for a lane, when one ends.

mod support;

use std::time::Duration;

use rap_link::{
    FEATURE_FABRIC, FEATURE_LANES, Frame, Input, Lane, Link, Local, Output, SessionState, Side, Timing,
    lane_request,
};
use rap_types::{ChannelClass, NodeId, Reason};
use support::*;

fn knowing(node: NodeId, features: &[&str]) -> Local {
    Local { features: features.iter().map(|name| (*name).to_owned()).collect(), ..local(node) }
}

/// An established pair on one lane, with what each side offers. The first side dialled.
fn pair_on(lane: Lane, ours: &[&str], theirs: &[&str]) -> (Link, Link) {
    let side = Side::Dialer { expected: LARGE, session_id: SESSION, lane };
    let mut a = Link::new(knowing(SMALL, ours), side, Timing::default(), START);
    let mut b = Link::new(knowing(LARGE, theirs), Side::Acceptor, Timing::default(), START);
    meet(&mut a, &mut b);
    for link in [&mut a, &mut b] {
        let [Output::Established(hello)] = &outputs(link)[..] else { panic!("one output") };
        let head = if lane == Lane::A { vec![7; 40] } else { vec![] };
        assert_eq!((hello.lane, &hello.newest_head), (lane, &head), "the head is told once");
    }
    (a, b)
}

const BOTH: &[&str] = &[FEATURE_FABRIC, FEATURE_LANES];

fn data(class: ChannelClass) -> Frame {
    Frame::labelled(class, 7, 2, vec![1, 2, 3])
}

/// Sends the bytes of a frame as a peer that keeps to no rule.
fn forced(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn data_on_the_wrong_lane_ends_that_connection_with_its_code() {
    for lane in [Lane::A, Lane::B, Lane::C] {
        for class in ChannelClass::ALL.iter().copied() {
            let (mut a, mut b) = pair_on(lane, BOTH, BOTH);
            let sent = a.handle(Input::SendAsked(data(class)), START);
            b.receive(&forced(&data(class)), START);
            if Lane::of_class(class) == lane {
                assert!(sent.is_ok());
                assert_eq!(outputs(&mut b), [Output::Received(data(class))]);
            } else {
                assert!(sent.is_err(), "an honest side does not send it");
                assert_eq!(b.reason(), Some(Reason::LinkLane), "{class} on {lane:?}");
                assert_eq!(b.counters().rejected.get(&Reason::LinkLane), Some(&1));
                a.receive(&bytes(&mut b), START);
                assert_eq!(a.reason(), Some(Reason::LinkLane), "the goodbye says why");
            }
        }
    }
}

#[test]
fn without_the_feature_on_both_sides_lane_a_carries_every_class() {
    for (ours, theirs) in [(BOTH, &BOTH[..1]), (&BOTH[..1], BOTH)] {
        let (mut a, mut b) = pair_on(Lane::A, ours, theirs);
        for class in ChannelClass::ALL.iter().copied() {
            a.handle(Input::SendAsked(data(class)), START).unwrap();
            exchange(&mut a, &mut b, START);
            assert_eq!(outputs(&mut b), [Output::Received(data(class))]);
        }
        assert!(b.handle(Input::SendAsked(lane_request(Lane::C)), START).is_err(), "it would close the link");
    }
}

#[test]
fn the_dialled_side_asks_for_a_lane() {
    let (mut a, mut b) = pair_on(Lane::A, BOTH, BOTH);
    for lane in [Lane::A, Lane::B, Lane::C] {
        b.handle(Input::SendAsked(lane_request(lane)), START).unwrap();
        exchange(&mut a, &mut b, START);
        assert_eq!(outputs(&mut a), [Output::LaneAsked(lane)]);
    }
    assert!(a.handle(Input::SendAsked(lane_request(Lane::C)), START).is_err(), "this side dials");
}

#[test]
fn senseless_requests_for_a_lane_end_the_connection() {
    let (_, mut dialled) = pair_on(Lane::A, BOTH, BOTH);
    dialled.receive(&forced(&lane_request(Lane::C)), START);
    assert_eq!(dialled.reason(), Some(Reason::LinkState), "the dialling side asks for nothing");
    let (mut dialler, _) = pair_on(Lane::A, BOTH, BOTH);
    dialler.receive(&forced(&Frame { payload: vec![].into(), ..lane_request(Lane::A) }), START);
    assert_eq!(dialler.reason(), Some(Reason::LinkState), "no lane");
    let (mut dialler, _) = pair_on(Lane::A, BOTH, BOTH);
    dialler.receive(&forced(&Frame { payload: vec![0x08, 9].into(), ..lane_request(Lane::A) }), START);
    assert_eq!(dialler.reason(), Some(Reason::LinkState), "a lane that nobody knows");
    let (mut dialler, _) = pair_on(Lane::A, BOTH, BOTH);
    dialler.receive(&forced(&Frame { payload: vec![0xff; 3].into(), ..lane_request(Lane::A) }), START);
    assert_eq!(dialler.reason(), Some(Reason::LinkFrameMalformed));
    let (mut other, _) = pair_on(Lane::C, BOTH, BOTH);
    other.receive(&forced(&lane_request(Lane::B)), START);
    assert_eq!(other.reason(), Some(Reason::LinkLane));
}

/// Keeps both sides awake until `until`.
fn awake(a: &mut Link, b: &mut Link, until: Duration) {
    while let Some(due) = [a.poll_timeout(), b.poll_timeout()].into_iter().flatten().min() {
        if due > after(until).mono {
            return;
        }
        let now = rap_types::Now { mono: due, wall: START.wall };
        a.handle_timeout(now);
        b.handle_timeout(now);
        exchange(a, b, now);
    }
}

#[test]
fn a_lane_without_data_ends_after_a_minute_and_lane_a_does_not() {
    let (mut a, mut b) = pair_on(Lane::C, BOTH, BOTH);
    awake(&mut a, &mut b, seconds(50));
    a.handle(Input::SendAsked(data(ChannelClass::Vpn)), after(seconds(50))).unwrap();
    exchange(&mut a, &mut b, after(seconds(50)));
    awake(&mut a, &mut b, seconds(109));
    assert_eq!((a.state(), b.state()), (SessionState::Established, SessionState::Established));
    awake(&mut a, &mut b, seconds(111));
    assert_eq!((a.reason(), b.reason()), (Some(Reason::LinkIdle), Some(Reason::LinkIdle)));

    let (mut a, mut b) = pair_on(Lane::A, BOTH, BOTH);
    awake(&mut a, &mut b, seconds(600));
    assert_eq!((a.state(), b.state()), (SessionState::Established, SessionState::Established));
}
