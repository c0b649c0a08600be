//! Endpoints: peers that move, candidates that are silent, sessions that are kept up.

use std::sync::atomic::Ordering;

use super::*;
use crate::network::UdpWay;

#[tokio::test]
async fn a_peer_that_moves_is_followed() {
    let node = Node::start(1, "127.0.0.1").await;
    let mut bare = BarePeer::new(2, "127.0.0.2", &node);
    node.apply(vec![peer(2, &[])]).await;
    assert!(matches!(node.device.ping(v4(2), 1, SILENCE).await, Err(PingError::Dropped("no_endpoint"))));
    bare.send(&echo_request(v4(2), v4(1)));
    bare.next_packet().await;
    assert_eq!(node.stats_of(2).endpoint, Some(bare.endpoint()));

    let moved = UdpSocket::bind("127.0.0.77:0").unwrap();
    moved.connect(node.device.local_addr()).unwrap();
    moved.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    bare.socket = moved;
    bare.send(&echo_request(v4(2), v4(1)));
    bare.next_packet().await;
    assert_eq!(node.stats_of(2).endpoint, Some(bare.endpoint()));

    // What does not authenticate moves nobody.
    let before = node.count(DropReason::Replay) + node.count(DropReason::DecryptFailed);
    let mut buffer = [0; 256];
    let boringtun::noise::TunnResult::WriteToNetwork(datagram) =
        bare.tunn.encapsulate(&echo_request(v4(2), v4(1)), &mut buffer)
    else {
        panic!("there is a session")
    };
    let last = datagram.len() - 1;
    datagram[last] ^= 1;
    let thief = UdpSocket::bind("127.0.0.66:0").unwrap();
    thief.send_to(datagram, node.device.local_addr()).unwrap();
    until("dropped", || node.count(DropReason::Replay) + node.count(DropReason::DecryptFailed) > before)
        .await;
    assert_eq!(node.stats_of(2).endpoint, Some(bare.endpoint()));
}

#[tokio::test]
async fn a_silent_endpoint_is_left_for_the_next_candidate() {
    let (a, b) = (Node::start(1, "127.0.0.1").await, Node::start(2, "127.0.0.2").await);
    // Bound, so that nothing else gets the port, and never read.
    let silent = UdpSocket::bind("127.0.0.9:0").unwrap();
    b.apply(vec![peer(1, &[])]).await;
    a.apply(vec![peer(2, &[silent.local_addr().unwrap(), b.device.local_addr()])]).await;
    a.ping(v4(2)).await.unwrap();
    assert_eq!(a.stats_of(2).endpoint, Some(b.device.local_addr()));
}

#[tokio::test]
async fn an_endpoint_the_kernel_cannot_reach_is_left_at_once() {
    let (a, b) = (Node::start(1, "127.0.0.1").await, Node::start(2, "127.0.0.2").await);
    b.apply(vec![peer(1, &[])]).await;
    // An IPv4 socket cannot send to an IPv6 address.
    a.apply(vec![peer(2, &["[::1]:9".parse().unwrap(), b.device.local_addr()])]).await;
    a.device.ping(v4(2), 1, Duration::from_secs(4)).await.unwrap();
    assert_eq!(a.count(DropReason::SendFailed), 0);
}

#[tokio::test]
async fn a_peer_that_starts_anew_is_heard_again_within_seconds() {
    let way = UdpWay::new();
    let (a, b) = (Node::start(1, "127.0.0.1").await, Node::start(2, "127.0.0.2").await);
    let (near, far) = (a.device.local_addr(), b.device.local_addr());
    a.apply(vec![peer(2, &[way.endpoint()])]).await;
    b.apply(vec![peer(1, &[])]).await;
    let test = async {
        a.ping(v4(2)).await.unwrap();
        // A probe and an answer of each.
        let full = || way.full.iter().all(|full| full.load(Ordering::Relaxed) >= 2);
        until("probes are answered", full).await;
        a.ping(v4(2)).await.unwrap();
        b.device.stop().await;
        let b = Node::start_at(2, far, None).await;
        b.apply(vec![peer(1, &[])]).await;
        let begin = now();
        for sequence in 0.. {
            if a.device.ping(v4(2), sequence, SILENCE / 2).await.is_ok() {
                break;
            }
        }
        let took = now().since(begin);
        assert!(took < Duration::from_secs(10), "{took:?}: the protocol alone takes 15 s");
    };
    tokio::select! {
        () = way.carry(near, far) => {}
        () = test => {}
    }
}

#[tokio::test]
async fn keepalive_brings_a_session_up_without_traffic() {
    let (a, b) = (Node::start(1, "127.0.0.1").await, Node::start(2, "127.0.0.2").await);
    b.apply(vec![peer(1, &[])]).await;
    a.apply(vec![Peer { keepalive: Some(1), ..b.peer() }]).await;
    until("a session on both sides", || {
        a.stats_of(2).handshake_age.is_some() && b.stats_of(1).handshake_age.is_some()
    })
    .await;
    let received = b.stats_of(1).rx_bytes;
    until("keepalives", || b.stats_of(1).rx_bytes >= received + 2 * 32).await;
}
