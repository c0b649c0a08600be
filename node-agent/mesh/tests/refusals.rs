//! Who is refused, what closes a live link, and what an unproven connection may cost.

mod support;

use std::sync::Arc;
use std::time::Duration;

use rap_link::{FRAME_VERSION, HEADER_LEN, SessionState};
use rap_mesh::{Budget, Dial, MeshEvent, Peer, Peers};
use rap_runtime::Clock;
use rap_runtime::tls::any_server_name;
use rap_types::{ChannelClass, Mono, Reason};
use support::*;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[tokio::test]
async fn a_node_outside_the_table_is_refused_and_told_why() {
    let authority = Authority::new(HOME);
    let (a, b) = (Node::start(&authority, config(1)), Node::start(&authority, config(2)));
    b.mesh.apply(peers(&authority, &[(node(3), None)]));
    a.mesh.apply(peers(&authority, &[(b.id, Some(b.address()))]));
    eventually("refused", || b.refused(Reason::LinkPeerUnknown) > 0).await;
    eventually("told", || a.reason(b.id) == Some(Reason::LinkPeerUnknown)).await;
    assert!(b.status(a.id).is_none());
}

#[tokio::test]
async fn another_authority_of_the_same_cluster_name_is_refused() {
    let (authority, forger) = (Authority::new(HOME), Authority::new(HOME));
    let b = Node::start(&authority, config(2));
    b.mesh.apply(peers(&authority, &[(node(1), None)]));
    let a = Node::start(&forger, config(1));
    a.mesh.apply(peers(&authority, &[(b.id, Some(b.address()))]));
    eventually("refused", || b.refused(Reason::CertificateInvalid) > 0).await;
    eventually("seen", || a.reason(b.id) == Some(Reason::CertificateInvalid)).await;
    assert!(!b.is_linked(a.id));
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused() {
    let (authority, foreign) = (Authority::new(HOME), Authority::new(FOREIGN));
    let b = Node::start(&authority, config(2));
    b.mesh.apply(peers(&authority, &[(node(1), None)]));
    let a = Node::start(&foreign, config(1));
    a.mesh.apply(peers(&authority, &[(b.id, Some(b.address()))]));
    eventually("refused", || b.refused(Reason::CertificateIdentity) > 0).await;
    assert!(!b.is_linked(a.id));
}

#[tokio::test]
async fn another_node_at_the_endpoint_is_not_taken_for_the_peer() {
    let authority = Authority::new(HOME);
    let (a, c) = (Node::start(&authority, config(1)), Node::start(&authority, config(3)));
    c.mesh.apply(peers(&authority, &[(a.id, None)]));
    a.mesh.apply(peers(&authority, &[(node(2), Some(c.address()))]));
    eventually("refused", || a.reason(node(2)) == Some(Reason::CertificateIdentity)).await;
    assert!(!c.is_linked(a.id));
}

#[tokio::test]
async fn a_revoked_peer_is_closed_at_once_and_cannot_return() {
    let authority = Authority::new(HOME);
    let (a, b) = linked_pair(&authority).await;
    let mut events = b.mesh.events();
    let mut table = peers(&authority, &[(a.id, None)]);
    table.trust = authority.trust(&[(a.id, 1)]);
    let revoked_at = Clock::new().now().mono;
    b.mesh.apply(table);
    let closed = loop {
        if let MeshEvent::Observed { peer, state: SessionState::Closed, reason, .. } =
            patiently(events.recv()).await.unwrap()
        {
            break (peer, reason);
        }
    };
    assert_eq!(closed, (a.id, Some(Reason::NodeRevoked)));
    let took = Clock::new().now().mono.since(revoked_at);
    assert!(took < Duration::from_secs(1), "the promise is one second, this took {took:?}");
    eventually("the return is refused", || b.refused(Reason::NodeRevoked) > 0).await;
    assert!(!b.is_linked(a.id));
    let (chain, key) = authority.leaf(a.id, 2, Duration::from_secs(3600));
    a.mesh.identify(chain, key).unwrap();
    eventually("the next key generation is welcome", || b.is_linked(a.id)).await;
}

#[tokio::test]
async fn a_removed_peer_is_closed_and_the_others_stay() {
    let authority = Authority::new(HOME);
    let (a, b) = linked_pair(&authority).await;
    let c = Node::start(&authority, config(3));
    c.mesh.apply(peers(&authority, &[(b.id, None)]));
    b.mesh.apply(peers(&authority, &[(a.id, None), (c.id, Some(c.address()))]));
    eventually("third linked", || b.is_linked(c.id) && c.is_linked(b.id)).await;
    let since = b.status(c.id).unwrap().since;
    let mut events = b.mesh.events();
    b.mesh.apply(peers(&authority, &[(c.id, Some(c.address()))]));
    let MeshEvent::Observed { peer, state, reason, .. } = patiently(events.recv()).await.unwrap() else {
        panic!("a state");
    };
    assert_eq!((peer, state, reason), (a.id, SessionState::Closed, Some(Reason::LinkPeerUnknown)));
    assert!(b.status(a.id).is_none());
    assert!(b.mesh.echo(c.id, ChannelClass::Control, vec![1]).await.is_ok());
    assert_eq!(b.status(c.id).unwrap().since, since);
}

#[tokio::test]
async fn the_peers_deadline_closes_its_link_and_stops_dialling() {
    let authority = Authority::new(HOME);
    let (a, b) = linked_pair(&authority).await;
    let mut table = peers(&authority, &[(b.id, Some(b.address()))]);
    let soon = Clock::new().now().mono.plus(Duration::from_millis(100));
    for peer in table.peers.values_mut() {
        peer.deadline = soon;
    }
    a.mesh.apply(table);
    eventually("closed", || a.reason(b.id) == Some(Reason::LinkPermitExpired)).await;
    assert!(Clock::new().now().mono >= soon);
    a.mesh.apply(peers(&authority, &[(b.id, Some(b.address()))]));
    eventually("a new deadline links again", || a.is_linked(b.id)).await;
}

#[tokio::test]
async fn an_expiring_leaf_closes_the_link_it_opened() {
    let authority = Authority::new(HOME);
    let (a, b) = (Node::start(&authority, config(1)), Node::start(&authority, config(2)));
    let (chain, key) = authority.leaf(a.id, 1, Duration::from_secs(1));
    a.mesh.identify(chain, key).unwrap();
    let mut events = b.mesh.events();
    b.mesh.apply(peers(&authority, &[(a.id, None)]));
    a.mesh.apply(peers(&authority, &[(b.id, Some(b.address()))]));
    let mut seen = Vec::new();
    while seen.last() != Some(&(SessionState::Closed, Some(Reason::LinkPermitExpired))) {
        if let MeshEvent::Observed { state, reason, .. } = patiently(events.recv()).await.unwrap() {
            seen.push((state, reason));
        }
    }
    assert!(seen.contains(&(SessionState::Established, None)), "{seen:?}");
}

#[tokio::test]
async fn a_slow_handshake_is_dropped_at_its_deadline() {
    let authority = Authority::new(HOME);
    let mut settings = config(2);
    settings.timing.handshake = Duration::from_millis(300);
    let target = Node::start(&authority, settings);
    target.mesh.apply(peers(&authority, &[(node(1), None)]));
    let started = Clock::new().now().mono;
    let mut mute = TcpStream::connect(target.address()).await.unwrap();
    let mut dripping = TcpStream::connect(target.address()).await.unwrap();
    dripping.write_all(&[22, 3, 1]).await.unwrap();
    let mut greeted = Puppet::connect(&authority, 1, &target).await;
    read_to_end(&mut mute).await;
    read_to_end(&mut dripping).await;
    let took = Clock::new().now().mono.since(started);
    assert!(took >= Duration::from_millis(300), "not before the deadline");
    greeted.read_until(SessionState::Closed).await;
    assert_eq!(greeted.link.reason(), Some(Reason::LinkHandshakeTimeout), "TLS alone is not a link");
    eventually("counted", || target.refused(Reason::LinkHandshakeTimeout) == 3).await;
}

#[tokio::test]
async fn the_handshake_budget_holds_per_source_and_leaves_others_in_peace() {
    let authority = Authority::new(HOME);
    let mut settings = config(2);
    settings.budget = Budget { in_flight: 8, per_source: 2 };
    settings.timing.handshake = Duration::from_secs(60);
    let target = Node::start(&authority, settings);
    target.mesh.apply(peers(&authority, &[(node(1), None)]));
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(tcp_from([127, 0, 9, 1], target.address()).await);
    }
    let mut over = tcp_from([127, 0, 9, 1], target.address()).await;
    assert!(read_to_end(&mut over).await.is_empty());
    assert_eq!(target.refused(Reason::LinkBudget), 1);
    let _link = Puppet::establish(&authority, 1, &target).await;
    assert!(target.is_linked(node(1)));
}

/// Idle connections end when others need their places, or at the deadline: long after this test.
#[tokio::test]
async fn idle_connections_of_a_few_sources_keep_no_link_out() {
    let authority = Authority::new(HOME);
    let mut settings = config(9);
    settings.budget = Budget { in_flight: 64, per_source: 16 };
    settings.timing.handshake = Duration::from_secs(60);
    let target = Node::start(&authority, settings);
    target.mesh.apply(peers(&authority, &[(node(1), None), (node(2), None)]));
    let mut held = Vec::new();
    for (network, host) in (0..4).flat_map(|network| (0..16).map(move |_| (network, 1))) {
        held.push(tcp_from([127, 0, 50 + network, host], target.address()).await);
    }
    for number in 1..=2 {
        let _link = Puppet::establish(&authority, number, &target).await;
        eventually("established", || target.is_linked(node(number))).await;
    }
}

#[tokio::test]
async fn established_links_do_not_use_the_handshake_budget() {
    let authority = Authority::new(HOME);
    let mut settings = config(9);
    settings.budget = Budget { in_flight: 1, per_source: 1 };
    let target = Node::start(&authority, settings);
    target.mesh.apply(peers(&authority, &[(node(1), None), (node(2), None), (node(3), None)]));
    let mut links = Vec::new();
    for number in 1..=3 {
        links.push(Puppet::establish(&authority, number, &target).await);
        eventually("established", || target.is_linked(node(number))).await;
    }
    assert_eq!(target.refused(Reason::LinkBudget), 0);
}

#[tokio::test]
async fn an_oversized_frame_closes_with_its_code() {
    let authority = Authority::new(HOME);
    let target = Node::start(&authority, config(2));
    target.mesh.apply(peers(&authority, &[(node(1), None)]));
    let mut puppet = Puppet::establish(&authority, 1, &target).await;
    let mut header = [0; HEADER_LEN];
    header[..3].copy_from_slice(&[FRAME_VERSION, 2, 3]);
    header[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    puppet.write_raw(&header).await;
    puppet.read_until(SessionState::Closed).await;
    assert_eq!(puppet.link.reason(), Some(Reason::LinkFrameTooLarge));
    eventually("status", || target.reason(node(1)) == Some(Reason::LinkFrameTooLarge)).await;
    eventually("counted", || target.refused(Reason::LinkFrameTooLarge) == 1).await;
}

#[tokio::test]
async fn bytes_that_are_no_frame_close_their_link_and_no_other() {
    let authority = Authority::new(HOME);
    let target = Node::start(&authority, config(2));
    target.mesh.apply(peers(&authority, &[(node(1), None), (node(3), None)]));
    let _bystander = Puppet::establish(&authority, 3, &target).await;
    let header = |version, class, kind, flags| {
        let mut header = [0; HEADER_LEN];
        header[..4].copy_from_slice(&[version, class, kind, flags]);
        header.to_vec()
    };
    let malformed = Reason::LinkFrameMalformed;
    for (what, bytes, reason) in [
        ("unknown version", header(FRAME_VERSION + 1, 2, 3, 0), malformed),
        ("unknown class", header(FRAME_VERSION, 8, 16, 0), malformed),
        ("no class", header(FRAME_VERSION, 0, 16, 0), malformed),
        ("unknown kind", header(FRAME_VERSION, 2, 99, 0), malformed),
        ("unknown flag", header(FRAME_VERSION, 2, 16, 0x80), malformed),
        ("a label without a hop", header(FRAME_VERSION, 6, 16, 2), malformed),
        ("a probe of class vpn", header(FRAME_VERSION, 6, 3, 0), malformed),
        ("data of no path", header(FRAME_VERSION, 6, 16, 0), Reason::LinkState),
    ] {
        let before = target.refused(reason);
        let mut puppet = Puppet::establish(&authority, 1, &target).await;
        puppet.write_raw(&bytes).await;
        puppet.read_until(SessionState::Closed).await;
        assert_eq!(puppet.link.reason(), Some(reason), "{what}");
        eventually(what, || target.refused(reason) == before + 1).await;
    }
    // A frame that never ends.
    let mut puppet = Puppet::establish(&authority, 1, &target).await;
    eventually("linked", || target.is_linked(node(1))).await;
    puppet.write_raw(&header(FRAME_VERSION, 2, 3, 0)[..HEADER_LEN - 1]).await;
    drop(puppet);
    eventually("ended", || target.reason(node(1)) == Some(Reason::LinkClosed)).await;
    assert!(target.is_linked(node(3)), "the others stay");
}

#[tokio::test]
async fn a_peer_that_stops_reading_is_closed_and_holds_no_more_than_the_buffer() {
    let authority = Authority::new(HOME);
    let mut settings = config(2);
    settings.write_stall = Duration::from_millis(300);
    settings.linger = Duration::from_millis(50);
    let target = Node::start(&authority, settings);
    target.mesh.apply(peers(&authority, &[(node(1), None)]));
    let mut puppet = Puppet::establish(&authority, 1, &target).await;
    let flood = puppet.questions(ChannelClass::Control, 32);
    let flooding = async { while puppet.stream.write_all(&flood).await.is_ok() {} };
    let closed = eventually("stalled", || target.reason(node(1)) == Some(Reason::LinkStalled));
    tokio::select! {
        () = flooding => {}
        () = closed => {}
    }
    eventually("stalled", || target.reason(node(1)) == Some(Reason::LinkStalled)).await;
}

#[tokio::test]
async fn garbage_does_not_stop_the_accept_loop() {
    let authority = Authority::new(HOME);
    let target = Node::start(&authority, config(2));
    target.mesh.apply(peers(&authority, &[(node(1), None)]));
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 300], &[22, 3, 1, 0xff, 0xff]] {
        let mut stream = TcpStream::connect(target.address()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        read_to_end(&mut stream).await;
    }
    eventually("counted", || target.refused(Reason::LinkClosed) == 3).await;
    let _link = Puppet::establish(&authority, 1, &target).await;
    assert!(target.tasks.failure().is_none());
}

#[tokio::test]
async fn a_member_that_does_not_ask_for_the_link_protocol_is_refused() {
    let authority = Authority::new(HOME);
    let target = Node::start(&authority, config(2));
    target.mesh.apply(peers(&authority, &[(node(1), None)]));
    let link_client = client(&authority, 1, target.id);
    for protocols in [vec![], vec![b"rap-flow/1".to_vec()]] {
        let mut client = (*link_client).clone();
        client.alpn_protocols = protocols;
        let tcp = TcpStream::connect(target.address()).await.unwrap();
        let dialled = TlsConnector::from(Arc::new(client)).connect(any_server_name(), tcp).await;
        if let Ok(mut stream) = dialled {
            assert!(read_to_end(&mut stream).await.is_empty(), "nothing is said to it");
        }
    }
    eventually("both counted", || target.refused(Reason::ChannelWrong) == 2).await;
    assert!(!target.is_linked(node(1)));
}

#[tokio::test]
async fn a_node_takes_as_many_attached_peers_as_it_may_and_those_that_stand_stay() {
    let authority = Authority::new(HOME);
    let target = Node::start(&authority, config(9));
    let accepted = |number| {
        let peer = Peer { endpoints: vec![], deadline: Mono(u64::MAX), dial: Dial::OnDemand };
        (node(number), peer)
    };
    let peers = [1, 2, 3].map(accepted).into();
    let trust = authority.trust(&[]);
    target.mesh.apply(Peers { peers, trust, newest_head: vec![], probe_interval: None, former: None });
    target.mesh.limit_attachments(2);
    let mut first = Puppet::establish(&authority, 1, &target).await;
    let _second = Puppet::establish(&authority, 2, &target).await;
    eventually("two are linked", || target.is_linked(node(1)) && target.is_linked(node(2))).await;
    let mut third = Puppet::connect(&authority, 3, &target).await;
    third.write().await;
    third.read_until(SessionState::Closed).await;
    assert_eq!(third.link.reason(), Some(Reason::LinkCapacity));
    target.mesh.limit_attachments(0);
    let _again = Puppet::establish(&authority, 1, &target).await;
    first.read_until(SessionState::Closed).await;
    assert_eq!(
        first.link.reason(),
        Some(Reason::LinkDuplicate),
        "a newer connection of a peer that is linked"
    );
    assert!(target.is_linked(node(1)) && target.is_linked(node(2)));
}
