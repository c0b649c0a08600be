//! Two links on one simulated clock.

#![allow(dead_code)]

use std::time::Duration;

use bytes::Bytes;
use rap_link::{Frame, FrameKind, Input, Lane, Link, Local, Output, PeerIdentity, Permit, Side, Timing};
use rap_types::{ChannelClass, ClusterId, Mono, NodeId, Now, Wall};

pub const CLUSTER: ClusterId = ClusterId::from_bytes([9; 16]);
pub const SMALL: NodeId = NodeId::from_bytes([1; 16]);
pub const LARGE: NodeId = NodeId::from_bytes([2; 16]);
pub const SESSION: [u8; 16] = [5; 16];
pub const START: Now = Now { mono: Mono(1_000_000_000), wall: Wall(1_700_000_000_000) };
pub const LONG: Permit = Permit::Until(Mono(u64::MAX));

pub fn local(node: NodeId) -> Local {
    Local {
        node,
        cluster: CLUSTER,
        features: vec!["probe".into(), rap_link::FEATURE_FABRIC.into()],
        newest_head: vec![7; 40],
    }
}

pub fn identity(node: NodeId) -> PeerIdentity {
    PeerIdentity { cluster: CLUSTER, node }
}

pub fn dialer() -> Link {
    let side = Side::Dialer { expected: LARGE, session_id: SESSION, lane: Lane::A };
    Link::new(local(SMALL), side, Timing::default(), START)
}

pub fn acceptor() -> Link {
    Link::new(local(LARGE), Side::Acceptor, Timing::default(), START)
}

/// An echo of class control.
pub fn echo(token: u64, payload: impl Into<Bytes>) -> Input {
    Input::EchoAsked { token, class: ChannelClass::Control, payload: payload.into() }
}

pub fn outputs(link: &mut Link) -> Vec<Output> {
    std::iter::from_fn(|| link.poll_output()).collect()
}

pub fn bytes(link: &mut Link) -> Vec<u8> {
    let mut wire = Vec::new();
    link.poll_transmit(usize::MAX, START, &mut wire);
    wire
}

/// Carries bytes both ways until both are silent.
pub fn exchange(a: &mut Link, b: &mut Link, now: Now) {
    loop {
        let (from_a, from_b) = (bytes(a), bytes(b));
        if from_a.is_empty() && from_b.is_empty() {
            return;
        }
        b.receive(&from_a, now);
        a.receive(&from_b, now);
    }
}

/// Has two links prove their peers and exchange hellos.
pub fn meet(a: &mut Link, b: &mut Link) {
    a.handle(Input::Opened, START).unwrap();
    a.handle(Input::Authenticated { peer: identity(LARGE), permit: LONG }, START).unwrap();
    b.handle(Input::Authenticated { peer: identity(SMALL), permit: LONG }, START).unwrap();
    exchange(a, b, START);
}

/// An established pair with its outputs drained.
pub fn pair() -> (Link, Link) {
    let (mut a, mut b) = (dialer(), acceptor());
    meet(&mut a, &mut b);
    outputs(&mut a);
    outputs(&mut b);
    (a, b)
}

/// Fires every timer of `link` up to `until`, exactly when due, as an undelayed shell would.
pub fn run_until(link: &mut Link, until: Now) {
    while let Some(due) = link.poll_timeout().filter(|due| *due <= until.mono) {
        link.handle_timeout(Now { mono: due, wall: until.wall });
    }
}

pub fn after(duration: Duration) -> Now {
    START.plus(duration)
}

pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A frame of class control on the wire.
pub fn wire(kind: FrameKind, payload: Vec<u8>) -> Vec<u8> {
    let mut wire = Vec::new();
    Frame::local(ChannelClass::Control, kind, payload).encode(&mut wire).unwrap();
    wire
}
