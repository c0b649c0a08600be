//! Nodes of one cluster link, measure each other, lose and find each other. Real TLS on loopback.

mod support;

use std::time::Duration;

use rap_link::{Answer, Direction, ECHO_MAX, Lane, SessionState, Timing};
use rap_mesh::{MeshEvent, Peers};
use rap_types::{ChannelClass, Reason};
use support::*;

#[tokio::test]
async fn two_nodes_link_probe_and_echo() {
    let authority = Authority::new(HOME);
    let (a, b) = linked_pair(&authority).await;
    for (from, to) in [(&a, &b), (&b, &a)] {
        let answers = from.mesh.probe(to.id, 5).await.unwrap();
        assert_eq!(answers.len(), 5);
        assert!(answers.iter().all(|answer| matches!(answer, Answer::RoundTrip(rtt) if !rtt.is_zero())));
        assert!(!from.mesh.echo(to.id, ChannelClass::Control, vec![0xee; ECHO_MAX]).await.unwrap().is_zero());
        let refused = from.mesh.echo(to.id, ChannelClass::Control, vec![0; ECHO_MAX + 1]).await;
        assert_eq!(refused, Err(Reason::LinkFrameTooLarge));
        let status = from.status(to.id).unwrap();
        assert!(status.rtt.is_some());
        assert!(status.counters.frames_sent >= 7 && status.counters.frames_received >= 7);
        assert!(status.counters.rejected.is_empty());
    }
    assert_eq!(a.status(b.id).unwrap().direction, Some(Direction::Outbound));
    assert_eq!(a.status(b.id).unwrap().remote, Some(b.address()));
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn the_larger_id_dials_when_the_smaller_cannot() {
    let authority = Authority::new(HOME);
    let mut large = config(2);
    large.dial_grace = Duration::from_millis(20);
    let (a, b) = (Node::start(&authority, config(1)), Node::start(&authority, large));
    a.mesh.apply(peers(&authority, &[(b.id, None)]));
    b.mesh.apply(peers(&authority, &[(a.id, Some(a.address()))]));
    eventually("linked", || a.is_linked(b.id) && b.is_linked(a.id)).await;
    assert_eq!(b.status(a.id).unwrap().direction, Some(Direction::Outbound));
}

#[tokio::test]
async fn dials_that_cross_end_as_the_one_link_of_the_smaller_id() {
    let authority = Authority::new(HOME);
    let (mut small, mut large) = (config(1), config(2));
    (small.dial_grace, large.dial_grace) = (Duration::ZERO, Duration::ZERO);
    let (a, b) = (Node::start(&authority, small), Node::start(&authority, large));
    a.mesh.apply(peers(&authority, &[(b.id, Some(b.address()))]));
    b.mesh.apply(peers(&authority, &[(a.id, Some(a.address()))]));
    eventually("one link, both ends agree", || {
        let (at_a, at_b) = (a.status(b.id).unwrap(), b.status(a.id).unwrap());
        let up = at_a.state == SessionState::Established && at_b.state == SessionState::Established;
        up && at_a.direction != at_b.direction
    })
    .await;
    assert!(a.mesh.echo(b.id, ChannelClass::Control, vec![1]).await.is_ok());
    assert!(b.mesh.echo(a.id, ChannelClass::Control, vec![1]).await.is_ok());
}

#[tokio::test]
async fn a_second_connection_of_the_same_dialler_replaces_the_first() {
    let authority = Authority::new(HOME);
    let target = Node::start(&authority, config(2));
    target.mesh.apply(peers(&authority, &[(node(1), None)]));
    let mut first = Puppet::establish(&authority, 1, &target).await;
    let mut second = Puppet::establish(&authority, 1, &target).await;
    first.read_until(SessionState::Closed).await;
    assert_eq!(first.link.reason(), Some(Reason::LinkDuplicate));
    let echo = target.mesh.echo(node(1), ChannelClass::Control, vec![2]);
    let echoed = patiently(second.answers(echo)).await;
    assert!(echoed.is_ok(), "the second connection is the link: {echoed:?}");
}

#[tokio::test]
async fn a_second_lane_leaves_the_first_alone_and_a_duplicate_replaces_its_own_lane_only() {
    use SessionState::{Closed, Established};
    let authority = Authority::new(HOME);
    let target = Node::start(&authority, config(2));
    target.mesh.apply(peers(&authority, &[(node(1), None)]));
    let mut a = Puppet::establish(&authority, 1, &target).await;
    let since = target.status(node(1)).unwrap().since;
    let mut b = Puppet::establish_lane(&authority, 1, &target, Lane::B).await;
    let _c = Puppet::establish_lane(&authority, 1, &target, Lane::C).await;
    eventually("three lanes", || {
        [Lane::A, Lane::B, Lane::C].iter().all(|lane| target.lane(node(1), *lane) == Some(Established))
    })
    .await;

    let again = Puppet::establish_lane(&authority, 1, &target, Lane::B).await;
    b.read_until(Closed).await;
    assert_eq!(b.link.reason(), Some(Reason::LinkDuplicate));
    assert_eq!(target.lane(node(1), Lane::B), Some(Established), "the newer one is the lane");
    drop(again);
    eventually("a lane without a connection is not listed", || target.lane(node(1), Lane::B).is_none()).await;
    assert_eq!(target.lane(node(1), Lane::C), Some(Established));

    // Commands go by lane A, which all this did not touch.
    assert_eq!(target.status(node(1)).unwrap().since, since);
    let probed = patiently(a.answers(target.mesh.probe(node(1), 1))).await;
    assert!(matches!(probed.as_deref(), Ok([Answer::RoundTrip(_)])), "{probed:?}");
}

#[tokio::test]
async fn a_peer_that_leaves_the_table_loses_every_lane() {
    let authority = Authority::new(HOME);
    let target = Node::start(&authority, config(2));
    target.mesh.apply(peers(&authority, &[(node(1), None)]));
    let _a = Puppet::establish(&authority, 1, &target).await;
    let _b = Puppet::establish_lane(&authority, 1, &target, Lane::B).await;
    eventually("both", || target.lane(node(1), Lane::B) == Some(SessionState::Established)).await;
    let mut events = target.mesh.events();
    target.mesh.apply(peers(&authority, &[]));
    let mut closed = Vec::new();
    while closed.len() < 2 {
        if let MeshEvent::Observed { lane, state: SessionState::Closed, reason, .. } =
            patiently(events.recv()).await.unwrap()
        {
            assert_eq!(reason, Some(Reason::LinkPeerUnknown));
            closed.push(lane);
        }
    }
    closed.sort_unstable();
    assert_eq!(closed, [Lane::A, Lane::B]);
    assert!(target.mesh.links().is_empty());
}

#[tokio::test]
async fn a_newer_head_of_the_peer_and_every_state_are_told() {
    let authority = Authority::new(HOME);
    let (a, b) = (Node::start(&authority, config(1)), Node::start(&authority, config(2)));
    let (mut events, mut events_b) = (a.mesh.events(), b.mesh.events());
    let newer = Peers { newest_head: b"newer".to_vec(), ..peers(&authority, &[(a.id, None)]) };
    b.mesh.apply(newer.clone());
    a.mesh.apply(peers(&authority, &[(b.id, Some(b.address()))]));
    let mut states = Vec::new();
    let mut head = None;
    while head.is_none() || !states.contains(&SessionState::Established) {
        match patiently(events.recv()).await.unwrap() {
            MeshEvent::Observed { peer, lane, state, reason, measured } => {
                assert_eq!((peer, lane, reason, measured), (b.id, Lane::A, None, None));
                states.push(state);
            }
            MeshEvent::PeerHead { peer, head: bytes } => {
                assert_eq!(peer, b.id);
                head = Some(bytes);
            }
            MeshEvent::PathRefused { .. } => panic!("nobody asked for a path"),
            MeshEvent::RelayRow { .. } => panic!("there is no relay"),
        }
    }
    use SessionState::{Authorising, Dialing, Established, Handshaking};
    assert_eq!(states, [Dialing, Handshaking, Authorising, Established]);
    assert_eq!(head.as_deref(), Some(&b"newer"[..]));
    assert_eq!(a.mesh.peer_heads(), [(b.id, head.unwrap())], "for those who look later");

    // The same head as one's own is no news.
    a.mesh.apply(Peers { peers: peers(&authority, &[(b.id, Some(b.address()))]).peers, ..newer });
    assert_eq!(a.mesh.peer_heads(), []);
    eventually("linked", || b.is_linked(a.id)).await;
    assert_eq!(b.mesh.peer_heads().len(), 1, "the older head of the other: {:?}", events_b.try_recv());
}

#[tokio::test]
async fn probes_become_a_measurement_that_is_told() {
    let authority = Authority::new(HOME);
    let (a, b) = linked_pair(&authority).await;
    let mut events = a.mesh.events();
    assert_eq!(a.status(b.id).unwrap().measured, None);
    a.mesh.probe(b.id, 3).await.unwrap();
    let told = loop {
        if let MeshEvent::Observed { peer, measured: Some(measured), state, .. } =
            patiently(events.recv()).await.unwrap()
        {
            assert_eq!((peer, state), (b.id, SessionState::Established));
            break measured;
        }
    };
    assert!(told.round_trip.is_some_and(|median| !median.is_zero()));
    assert_eq!(told.loss_ppm, 0);
    assert!(a.status(b.id).unwrap().measured.is_some());
}

#[tokio::test]
async fn a_restarted_peer_is_linked_again() {
    let authority = Authority::new(HOME);
    let (a, b) = linked_pair(&authority).await;
    let (b_id, address) = (b.id, b.address());
    let mut events = a.mesh.events();
    b.stop().await;
    let left = loop {
        if let MeshEvent::Observed { state: SessionState::Closed, reason, .. } =
            patiently(events.recv()).await.unwrap()
        {
            break reason;
        }
    };
    assert_eq!(left, Some(Reason::LinkDrained), "the peer said why it left");
    let mut again = config(2);
    again.listen = address;
    let b = Node::start(&authority, again);
    b.mesh.apply(peers(&authority, &[(a.id, None)]));
    eventually("linked again", || a.is_linked(b_id) && b.is_linked(a.id)).await;
    assert!(a.mesh.echo(b_id, ChannelClass::Control, vec![7]).await.is_ok());
}

#[tokio::test]
async fn a_silent_peer_becomes_suspect_and_is_closed() {
    let authority = Authority::new(HOME);
    let mut settings = config(2);
    settings.timing = Timing {
        idle: Duration::from_millis(40),
        probe_interval: Duration::from_millis(40),
        ..Timing::default()
    };
    let target = Node::start(&authority, settings);
    let mut events = target.mesh.events();
    target.mesh.apply(peers(&authority, &[(node(1), None)]));
    let _silent = Puppet::establish(&authority, 1, &target).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&(SessionState::Closed, Some(Reason::LinkSilent))) {
        if let MeshEvent::Observed { state, reason, .. } = patiently(events.recv()).await.unwrap() {
            seen.push((state, reason));
        }
    }
    assert!(seen.contains(&(SessionState::Suspect, None)), "{seen:?}");
}

#[tokio::test]
async fn a_tables_probe_interval_takes_effect_on_a_live_link() {
    let authority = Authority::new(HOME);
    let mut settings = config(1);
    settings.timing.idle = Duration::from_secs(600);
    let (a, b) = linked_with(&authority, settings, config(2)).await;
    assert_eq!(a.status(b.id).unwrap().rtt, None);
    let since = a.status(b.id).unwrap().since;
    let often = Some(Duration::from_millis(20));
    a.mesh.apply(Peers { probe_interval: often, ..peers(&authority, &[(b.id, Some(b.address()))]) });
    eventually("probed", || a.status(b.id).unwrap().rtt.is_some()).await;
    assert_eq!(a.status(b.id).unwrap().since, since, "the same connection");
}

#[tokio::test]
async fn nobody_is_asked_when_there_is_no_link() {
    let authority = Authority::new(HOME);
    let a = Node::start(&authority, config(1));
    assert_eq!(a.mesh.probe(node(2), 1).await, Err(Reason::LinkPeerUnknown));
    a.mesh.apply(peers(&authority, &[(node(2), None)]));
    assert_eq!(a.mesh.echo(node(2), ChannelClass::Control, vec![]).await, Err(Reason::LinkUnreachable));
    assert_eq!(a.status(node(2)).unwrap().reason, None, "nothing was tried");
}
