//! Devices without TUN, over loopback: what passes, what is dropped and why, what survives a new configuration.

mod endpoints;
#[path = "../fixture/mod.rs"]
mod fixture;
mod network;
mod paths;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use fixture::*;
use rap_types::Reason;
use rap_wireguard::{ConfigError, DropReason, Peer, PingError, PresharedKey};

/// Two nodes that know each other.
async fn pair(ip_a: &str, ip_b: &str) -> (Node, Node) {
    let (a, b) = (Node::start(1, ip_a).await, Node::start(2, ip_b).await);
    a.apply(vec![b.peer()]).await;
    b.apply(vec![a.peer()]).await;
    (a, b)
}

fn unanswered(result: &Result<Duration, PingError>) -> bool {
    matches!(result, Err(error) if error.reason() == Reason::ProbeTimeout)
}

#[tokio::test]
async fn two_nodes_ping_both_families_both_ways() {
    let (a, b) = pair("127.0.0.1", "127.0.0.2").await;
    for (from, to) in [(&a, 2), (&b, 1)] {
        assert!(from.ping(v4(to)).await.unwrap() > Duration::ZERO);
        assert!(from.ping(v6(to)).await.unwrap() > Duration::ZERO);
        let stats = from.stats_of(to);
        assert!(stats.handshake_age.is_some_and(|age| age < PATIENCE));
        assert!(stats.rx_bytes > 0 && stats.tx_bytes > 0);
    }
    let drops: Vec<_> = a.device.counters().into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(drops, []);
}

#[tokio::test]
async fn the_underlay_may_be_ipv6_only() {
    let (a, b) = pair("::1", "::1").await;
    a.ping(v4(2)).await.unwrap();
    b.ping(v6(1)).await.unwrap();
    assert!(a.stats_of(2).endpoint.unwrap().is_ipv6());
}

#[tokio::test]
async fn a_wildcard_ipv6_socket_carries_ipv4() {
    let (a, b) = (Node::start(1, "::").await, Node::start(2, "127.0.0.1").await);
    let reachable = SocketAddr::from(([127, 0, 0, 9], a.device.local_addr().port()));
    a.apply(vec![b.peer()]).await;
    b.apply(vec![peer(1, &[reachable])]).await;
    b.ping(v4(1)).await.unwrap();
    a.ping(v6(2)).await.unwrap();
    assert_eq!(a.stats_of(2).endpoint, Some(b.device.local_addr()), "shown as IPv4");
}

#[tokio::test]
async fn a_preshared_key_must_match() {
    let (a, b) = (Node::start(1, "127.0.0.1").await, Node::start(2, "127.0.0.1").await);
    let with = |peer: Peer, psk: u8| Peer { preshared: Some(PresharedKey::new([psk; 32])), ..peer };
    a.apply(vec![with(b.peer(), 5)]).await;
    b.apply(vec![with(a.peer(), 6)]).await;
    assert!(unanswered(&a.device.ping(v4(2), 1, SILENCE).await));
    assert!(a.count(DropReason::DecryptFailed) > 0);
    b.apply(vec![with(a.peer(), 5)]).await;
    b.ping(v4(1)).await.unwrap();
}

#[tokio::test]
async fn three_nodes_and_a_stranger() {
    let (a, b) = (Node::start(1, "127.0.0.1").await, Node::start(2, "127.0.0.2").await);
    let (c, stranger) = (Node::start(3, "127.0.0.3").await, Node::start(4, "127.0.0.4").await);
    a.apply(vec![b.peer(), c.peer()]).await;
    b.apply(vec![a.peer(), c.peer()]).await;
    c.apply(vec![a.peer(), b.peer()]).await;
    stranger.apply(vec![a.peer()]).await;
    for (from, to) in [(&a, 2), (&b, 3), (&c, 1)] {
        from.ping(v4(to)).await.unwrap();
        from.ping(v6(to)).await.unwrap();
    }
    assert!(unanswered(&stranger.device.ping(v4(1), 1, SILENCE).await));
    a.until_counted(DropReason::NoPeer, 1).await;
    assert!(matches!(a.device.ping(v4(9), 1, SILENCE).await, Err(PingError::NoPeer(_))));
}

#[tokio::test]
async fn simultaneous_first_packets_settle() {
    let (a, b) = pair("127.0.0.1", "127.0.0.2").await;
    for _ in 0..20 {
        let (there, back) = tokio::join!(a.ping(v4(2)), b.ping(v6(1)));
        there.unwrap();
        back.unwrap();
    }
}

#[tokio::test]
async fn a_spoofed_source_is_dropped_and_counted() {
    let (node, other) = (Node::start(1, "127.0.0.1").await, Node::start(3, "127.0.0.3").await);
    let mut bare = BarePeer::new(2, "127.0.0.2", &node);
    node.apply(vec![peer(2, &[]), other.peer()]).await;
    bare.send(&echo_request(v4(2), v4(1)));
    bare.next_packet().await;
    assert_eq!(node.count(DropReason::BadSource), 0);

    // another peer, nobody, the receiver itself
    for (sent, source) in [v4(3), v4(200), v4(1)].into_iter().enumerate() {
        bare.send(&echo_request(source, v4(1)));
        node.until_counted(DropReason::BadSource, sent as u64 + 1).await;
    }
    assert_eq!(bare.receive(), Vec::<Vec<u8>>::new(), "none of them was answered");
    bare.send(&echo_request(v4(2), v4(1)));
    bare.next_packet().await;
}

#[tokio::test]
async fn a_prefix_that_is_forwarded_here_may_be_sent_to_and_is_no_peers_source() {
    let node = Node::start(1, "127.0.0.1").await;
    let mut bare = BarePeer::new(2, "127.0.0.2", &node);
    let behind: IpAddr = "10.50.0.9".parse().unwrap();
    let mut config = config(1, vec![peer(2, &[])]);
    node.device.apply(config.clone()).await.unwrap();
    bare.send(&echo_request(v4(2), v4(1)));
    bare.next_packet().await;
    bare.send(&echo_request(v4(2), behind));
    node.until_counted(DropReason::BadDestination, 1).await;

    config.routed = vec!["10.50.0.0/24".parse().unwrap()];
    node.device.apply(config).await.unwrap();
    bare.send(&echo_request(v4(2), behind));
    // It passes the check. Without an interface there is nowhere to forward it to, and it is not answered here.
    node.until_counted(DropReason::NoListener, 1).await;
    bare.send(&echo_request(behind, v4(1)));
    node.until_counted(DropReason::BadSource, 1).await;
    assert_eq!(node.count(DropReason::BadDestination), 1);
    assert_eq!(bare.receive(), Vec::<Vec<u8>>::new());
}

#[tokio::test]
async fn every_other_bad_packet_has_its_counter() {
    let node = Node::start(1, "127.0.0.1").await;
    let mut bare = BarePeer::new(2, "127.0.0.2", &node);
    node.apply(vec![peer(2, &[])]).await;
    bare.send(&echo_request(v4(2), v4(1)));
    bare.next_packet().await;

    let mut udp = echo_request(v4(2), v4(1));
    udp[9] = 17;
    let inner = [
        (DropReason::BadDestination, echo_request(v4(2), v4(77))),
        (DropReason::Multicast, echo_request(v4(2), IpAddr::from([224, 0, 0, 1]))),
        (DropReason::NoListener, udp),
        (DropReason::NotIp, vec![0x10; 40]),
    ];
    for (reason, packet) in inner {
        bare.send(&packet);
        node.until_counted(reason, 1).await;
    }

    let mut unknown_session = [0; 64];
    unknown_session[0] = 4;
    unknown_session[4..8].copy_from_slice(&[0xff; 4]);
    let mut bad_mac = [0; 148];
    bad_mac[0] = 1;
    let outer: [(DropReason, &[u8]); 5] = [
        (DropReason::Malformed, &[]),
        (DropReason::Malformed, &[9; 60]),
        (DropReason::NoSession, &unknown_session),
        (DropReason::BadMac, &bad_mac),
        (DropReason::TooBig, &[4; 9000]),
    ];
    for (reason, datagram) in outer {
        let before = node.count(reason);
        bare.socket.send(datagram).unwrap();
        node.until_counted(reason, before + 1).await;
    }
}

#[tokio::test]
async fn replayed_and_damaged_datagrams_are_counted() {
    let node = Node::start(1, "127.0.0.1").await;
    let mut bare = BarePeer::new(2, "127.0.0.2", &node);
    node.apply(vec![peer(2, &[])]).await;
    bare.send(&echo_request(v4(2), v4(1)));
    bare.next_packet().await;

    let mut buffer = [0; 256];
    let boringtun::noise::TunnResult::WriteToNetwork(datagram) =
        bare.tunn.encapsulate(&echo_request(v4(2), v4(1)), &mut buffer)
    else {
        panic!("there is a session")
    };
    bare.socket.send(datagram).unwrap();
    bare.socket.send(datagram).unwrap();
    let mut damaged = datagram.to_vec();
    damaged[8] ^= 0x40;
    bare.socket.send(&damaged).unwrap();
    node.until_counted(DropReason::Replay, 1).await;
    node.until_counted(DropReason::DecryptFailed, 1).await;
    assert_eq!(bare.receive().len(), 1, "answered once");
}

#[tokio::test]
async fn a_removed_peer_stops_at_once() {
    let (a, b) = pair("127.0.0.1", "127.0.0.2").await;
    a.ping(v4(2)).await.unwrap();
    b.apply(Vec::new()).await;
    assert!(unanswered(&a.device.ping(v4(2), 1, SILENCE).await));
    b.until_counted(DropReason::NoSession, 1).await;
    assert!(matches!(b.ping(v4(1)).await, Err(PingError::NoPeer(_))));
    assert_eq!(b.device.stats(), []);
}

#[tokio::test]
async fn an_address_taken_from_a_peer_is_no_longer_its() {
    let (a, b) = pair("127.0.0.1", "127.0.0.2").await;
    a.ping(v4(2)).await.unwrap();
    b.apply(vec![Peer { allowed_ips: vec![v6(1).into()], ..a.peer() }]).await;
    assert!(unanswered(&a.device.ping(v4(2), 1, SILENCE).await));
    assert!(b.count(DropReason::BadSource) > 0);
    a.ping(v6(2)).await.unwrap();
}

#[tokio::test]
async fn the_session_of_an_unchanged_peer_survives_a_new_configuration() {
    let (a, b) = pair("127.0.0.1", "127.0.0.2").await;
    a.ping(v4(2)).await.unwrap();
    let c = Node::start(3, "127.0.0.3").await;
    // From now on b answers no handshake: only the old session can work.
    b.apply(vec![Peer { endpoints: Vec::new(), keepalive: Some(25), ..a.peer() }, c.peer()]).await;
    a.apply(vec![c.peer(), Peer { allowed_ips: vec![v4(2).into()], ..b.peer() }]).await;
    let before = a.stats_of(2);
    assert!(before.handshake_age.is_some());
    let handshakes_before = before.tx_bytes;
    a.ping(v4(2)).await.unwrap();
    let after = a.stats_of(2);
    assert!(after.tx_bytes - handshakes_before < 148, "a handshake message alone has 148 bytes");
    assert!(after.handshake_age >= before.handshake_age);
}

#[tokio::test]
async fn a_refused_configuration_changes_nothing() {
    let (a, b) = pair("127.0.0.1", "127.0.0.2").await;
    let twice = config(1, vec![b.peer(), b.peer()]);
    let refused = a.device.apply(twice).await.unwrap_err();
    assert!(matches!(refused, ConfigError::DuplicatePeer));
    assert_eq!(refused.reason(), Reason::DataplaneTable);
    a.ping(v4(2)).await.unwrap();
}

#[tokio::test]
async fn a_deadline_removes_the_peer_without_being_told() {
    let (a, b) = pair("127.0.0.1", "127.0.0.2").await;
    let c = Node::start(3, "127.0.0.3").await;
    c.apply(vec![a.peer()]).await;
    a.apply(vec![b.peer(), c.peer()]).await;
    a.ping(v4(2)).await.unwrap();
    a.ping(v4(3)).await.unwrap();
    let short = Peer { deadline: Some(now().plus(Duration::from_millis(300))), ..b.peer() };
    a.apply(vec![short, c.peer()]).await;
    until("the peer is gone", || a.device.stats().len() == 1).await;
    assert!(matches!(a.ping(v4(2)).await, Err(PingError::NoPeer(_))));
    assert!(unanswered(&b.device.ping(v4(1), 1, SILENCE).await));
    a.ping(v4(3)).await.unwrap();
}

#[tokio::test]
async fn a_passed_deadline_holds_before_any_timer_ran() {
    let (a, b) = pair("127.0.0.1", "127.0.0.2").await;
    a.ping(v4(2)).await.unwrap();
    a.apply(vec![Peer { deadline: Some(now()), ..b.peer() }]).await;
    let refused = a.device.ping(v4(2), 1, SILENCE).await;
    assert!(matches!(refused, Err(PingError::Dropped("expired") | PingError::NoPeer(_))), "{refused:?}");
}

#[tokio::test]
async fn the_deadline_of_a_configuration_spares_only_marked_peers() {
    let (a, b) = pair("127.0.0.1", "127.0.0.2").await;
    let c = Node::start(3, "127.0.0.3").await;
    c.apply(vec![a.peer()]).await;
    let mut next = config(1, vec![b.peer(), Peer { survive_forever: true, ..c.peer() }]);
    next.deadline = Some(now().plus(Duration::from_millis(300)));
    a.device.apply(next).await.unwrap();
    until("one is left", || a.device.stats().len() == 1).await;
    assert_eq!(a.device.stats()[0].public_key, public(3));
    a.ping(v4(3)).await.unwrap();
}

#[tokio::test]
async fn under_load_strangers_get_cookies_and_peers_get_in() {
    let node = Node::start(1, "127.0.0.1").await;
    node.apply(vec![peer(2, &[])]).await;
    let flood = UdpSocket::bind("127.0.0.66:0").unwrap();
    flood.connect(node.device.local_addr()).unwrap();
    flood.set_nonblocking(true).unwrap();
    let mut stranger = boringtun::noise::Tunn::new(secret(99), node.device.public_key(), None, None, 1, None);
    let mut init = [0; 148];
    let mut cookies = 0;
    let mut bare = BarePeer::new(2, "127.0.0.2", &node);
    let mut waits = 0;
    until("a cookie for the stranger and an answer for the peer", || {
        for _ in 0..200 {
            let _ = stranger.format_handshake_initiation(&mut init, true);
            let _ = flood.send(&init);
        }
        let mut reply = [0; 256];
        while let Ok(len) = flood.recv(&mut reply) {
            assert_eq!((len, reply[0]), (64, 3), "a stranger gets nothing but cookies");
            cookies += 1;
        }
        // The real peer gets a cookie too; with it, its next attempt is let in.
        let heard = bare.socket.peek(&mut reply).is_ok();
        bare.receive();
        if heard || waits == 0 {
            let mut attempt = [0; 148];
            let _ = bare.tunn.format_handshake_initiation(&mut attempt, true);
            bare.socket.send(&attempt).unwrap();
        }
        waits = if heard { 1 } else { (waits + 1) % 50 };
        cookies > 0 && node.stats_of(2).rx_bytes > 0
    })
    .await;
    assert!(node.count(DropReason::UnderLoad) > 0);
    assert!(node.count(DropReason::NoPeer) > 0);
}

#[tokio::test]
async fn packets_that_wait_for_a_session_are_bounded() {
    let node = Node::start(1, "127.0.0.1").await;
    let silent = UdpSocket::bind("127.0.0.9:0").unwrap();
    node.apply(vec![peer(2, &[silent.local_addr().unwrap()])]).await;
    let mut refused = 0;
    for _ in 0..40 {
        let result = node.device.ping(v4(2), 1, Duration::from_millis(1)).await;
        refused += usize::from(matches!(result, Err(PingError::Dropped("queue_full"))));
    }
    assert_eq!(refused, 24, "sixteen wait");
    assert_eq!(node.count(DropReason::QueueFull), 24);
}

#[tokio::test]
async fn what_waited_for_the_session_arrives() {
    let (a, b) = pair("127.0.0.1", "127.0.0.2").await;
    let ping = |sequence| a.device.ping(v4(2), sequence, PATIENCE);
    let (first, second, third, fourth) = tokio::join!(ping(0), ping(1), ping(2), ping(3));
    for answer in [first, second, third, fourth] {
        answer.unwrap();
    }
    assert_eq!(a.count(DropReason::QueueFull), 0);
    assert!(b.stats_of(1).rx_bytes > 0);
}

#[tokio::test]
async fn a_stopped_device_frees_its_port_and_takes_no_configuration() {
    let node = Node::start(1, "127.0.0.1").await;
    let address = node.device.local_addr();
    assert!(UdpSocket::bind(address).is_err());
    node.group.cancel();
    node.device.ended().await;
    assert!(matches!(node.device.apply(config(1, Vec::new())).await, Err(ConfigError::Ended)));
    assert_eq!(node.device.failure(), None);
    node.device.stop().await;
    UdpSocket::bind(address).unwrap();
}
