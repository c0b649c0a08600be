//! Peers that are reached through paths, and the move between a path and the direct way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rap_wireguard::{PathEnd, PathEvent, PathSlot, Way};
use tokio::task::JoinSet;

use super::*;
use crate::network::{Paths, UdpWay};

/// Two nodes that may have paths with each other; the first knows `endpoint` of the second.
async fn relayed(paths: &Paths, endpoint: &[SocketAddr]) -> (Node, Node) {
    let a = Node::start_with(1, "127.0.0.1", Some(paths.port(0))).await;
    let b = Node::start_with(2, "127.0.0.2", Some(paths.port(1))).await;
    a.apply(vec![Peer { relayed: true, ..peer(2, endpoint) }]).await;
    b.apply(vec![Peer { relayed: true, ..peer(1, &[]) }]).await;
    (a, b)
}

fn on(node: &Node, seed: u8) -> Option<u64> {
    match node.stats_of(seed).way? {
        Way::Path(PathEnd(end)) => Some(end),
        Way::Udp(_) => Some(0),
    }
}

#[tokio::test]
async fn the_first_packet_waits_for_a_path_and_is_answered() {
    let paths = Paths::new(Duration::from_millis(10), 1, 0);
    let (a, b) = relayed(&paths, &[]).await;
    let test = async {
        let installed = async {
            until("a path is wanted", || paths.port(0).wanted.load(Ordering::Relaxed) > 0).await;
            paths.up(1, PathSlot::Primary, [&a, &b]).await;
        };
        let (first, second, ()) = tokio::join!(a.ping(v4(2)), a.device.ping(v4(2), 2, PATIENCE), installed);
        assert!(first.unwrap() >= Duration::from_millis(20) && second.unwrap() >= Duration::from_millis(20));
        assert_eq!((on(&a, 2), on(&b, 1)), (Some(1), Some(1)));
        b.ping(v6(1)).await.unwrap();
        assert_eq!(a.stats_of(2).endpoint, None);
        assert_eq!(
            paths.port(1).wanted.load(Ordering::Relaxed),
            0,
            "the answer goes where the question came from"
        );

        paths.up(2, PathSlot::Backup, [&a, &b]).await;
        paths.down(1, [&a, &b]).await;
        until("the backup stands in", || on(&a, 2) == Some(2) && on(&b, 1) == Some(2)).await;
        a.ping(v4(2)).await.unwrap();
        paths.down(2, [&a, &b]).await;
        until("no way", || on(&a, 2).is_none()).await;
        let (lost, ()) = tokio::join!(a.device.ping(v4(2), 3, Duration::from_millis(200)), async {
            until("asked again", || paths.port(0).wanted.load(Ordering::Relaxed) > 1).await;
        });
        assert!(unanswered(&lost), "{lost:?}");
        until("it waited too long", || a.count(DropReason::NoWay) > 0).await;
    };
    tokio::select! {
        () = paths.carry([&a, &b]) => {}
        () = test => {}
    }
}

#[tokio::test]
async fn a_copy_on_both_ways_is_delivered_once() {
    let paths = Paths::new(Duration::ZERO, 2, 0);
    let (a, b) = relayed(&paths, &[]).await;
    let test = async {
        paths.up(1, PathSlot::Primary, [&a, &b]).await;
        for _ in 0..20 {
            a.ping(v4(2)).await.unwrap();
        }
        until("copies", || a.count(DropReason::Replay) >= 20 && b.count(DropReason::Replay) >= 20).await;
        // An echo that was delivered twice would have two replies, and nobody waits for the second.
        assert_eq!(a.count(DropReason::NoListener), 0);
    };
    tokio::select! {
        () = paths.carry([&a, &b]) => {}
        () = test => {}
    }
}

#[tokio::test]
async fn a_path_that_loses_some_is_not_left() {
    let paths = Paths::new(Duration::from_millis(5), 1, 10);
    let (a, b) = relayed(&paths, &[]).await;
    let test = async {
        paths.up(1, PathSlot::Primary, [&a, &b]).await;
        a.ping(v4(2)).await.unwrap();
        paths.up(2, PathSlot::Backup, [&a, &b]).await;
        let mut answered = 0;
        for sequence in 0..60 {
            answered += usize::from(a.device.ping(v4(2), sequence, SILENCE / 4).await.is_ok());
        }
        assert!((40..60).contains(&answered), "{answered} of 60");
        assert_eq!((on(&a, 2), on(&b, 1)), (Some(1), Some(1)));
    };
    tokio::select! {
        () = paths.carry([&a, &b]) => {}
        () = test => {}
    }
}

#[tokio::test]
async fn initiations_go_on_every_way_and_data_on_one() {
    let paths = Paths::new(Duration::from_millis(2), 1, 0);
    let way = UdpWay::new();
    let (a, b) = relayed(&paths, &[way.endpoint()]).await;
    let test = async {
        paths.up(1, PathSlot::Primary, [&a, &b]).await;
        paths.up(2, PathSlot::Backup, [&a, &b]).await;
        for _ in 0..5 {
            a.ping(v4(2)).await.unwrap();
        }
        let taken = paths.port(0).taken.lock().unwrap().clone();
        let count = |path: u64, kind: u8| taken.iter().filter(|datagram| **datagram == (path, kind)).count();
        assert_eq!((count(1, 1), count(2, 1)), (1, 1), "{taken:?}");
        let data = [count(1, 4), count(2, 4)];
        assert!(data == [0, 0] || on(&a, 2) != Some(0), "{data:?}");
        until("the copies are refused", || b.count(DropReason::HandshakeRejected) == 2).await;
    };
    tokio::select! {
        () = paths.carry([&a, &b]) => {}
        () = way.carry(a.device.local_addr(), b.device.local_addr()) => {}
        () = test => {}
    }
}

/// One hundred pings per second until `end`; how many were answered, and how many not.
async fn stream(node: &Arc<Node>, end: &AtomicBool) -> (usize, usize) {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let mut pings = JoinSet::new();
    for sequence in 0.. {
        ticks.tick().await;
        if end.load(Ordering::Relaxed) {
            break;
        }
        let node = node.clone();
        pings.spawn(async move { node.device.ping(v4(2), sequence, Duration::from_secs(2)).await.is_ok() });
    }
    let results = pings.join_all().await;
    let answered = results.iter().filter(|answered| **answered).count();
    (answered, results.len() - answered)
}

#[tokio::test]
async fn the_direct_way_dies_and_the_traffic_leaves_it_and_comes_back() {
    let paths = Paths::new(Duration::from_millis(15), 1, 0);
    let way = UdpWay::new();
    let (a, b) = relayed(&paths, &[way.endpoint()]).await;
    let (a, end) = (Arc::new(a), AtomicBool::new(false));
    let moves = async {
        until("direct", || on(&a, 2) == Some(0) && on(&b, 1) == Some(0)).await;
        // The direct way answers probes now.
        let probed = paths.port(0).wanted.load(Ordering::Relaxed);
        way.open.store(false, Ordering::Relaxed);
        until("paths are asked for", || paths.port(0).wanted.load(Ordering::Relaxed) > probed).await;
        paths.up(1, PathSlot::Primary, [&a, &b]).await;
        until("relayed", || on(&a, 2) == Some(1) && on(&b, 1) == Some(1)).await;
        a.ping(v4(2)).await.unwrap();
        way.open.store(true, Ordering::Relaxed);
        until("direct again", || on(&a, 2) == Some(0) && on(&b, 1) == Some(0)).await;
        a.ping(v4(2)).await.unwrap();
        end.store(true, Ordering::Relaxed);
    };
    let test = async {
        let ((answered, lost), ()) = tokio::join!(stream(&a, &end), moves);
        assert!(answered > 500 && lost < 300, "{answered} answered, {lost} lost");
        assert_eq!(a.count(DropReason::NoListener), 0, "no duplicate was delivered");
        assert_eq!(
            a.count(DropReason::Replay) + b.count(DropReason::Replay),
            0,
            "nothing overtook the window"
        );
    };
    tokio::select! {
        () = paths.carry([&a, &b]) => {}
        () = way.carry(a.device.local_addr(), b.device.local_addr()) => {}
        () = test => {}
    }
}

#[tokio::test]
async fn under_load_a_handshake_on_a_path_gets_a_cookie() {
    let paths = Paths::new(Duration::ZERO, 1, 0);
    let (a, b) = relayed(&paths, &[]).await;
    paths.up(1, PathSlot::Primary, [&a, &b]).await;
    let mut stranger = boringtun::noise::Tunn::new(secret(99), b.device.public_key(), None, None, 1, None);
    let mut initiation = [0; 148];
    let port = paths.port(1);
    until("a cookie", || {
        for _ in 0..50 {
            let _ = stranger.format_handshake_initiation(&mut initiation, true);
            let event = PathEvent::Received { end: PathEnd(1), datagram: initiation.to_vec() };
            let sent = b.device.path_event(event);
            // Never waits for a datagram.
            assert!(
                std::pin::pin!(sent)
                    .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
                    .is_ready()
            );
        }
        port.taken.lock().unwrap().contains(&(1, 3))
    })
    .await;
    assert!(b.count(DropReason::UnderLoad) > 0);
}

#[tokio::test]
async fn a_malformed_probe_is_counted_and_not_delivered() {
    let node = Node::start(1, "127.0.0.1").await;
    let mut bare = BarePeer::new(2, "127.0.0.2", &node);
    node.apply(vec![peer(2, &[])]).await;
    bare.send(&echo_request(v4(2), v4(1)));
    bare.next_packet().await;
    let mut probe = echo_request(v4(2), v4(1));
    probe[9] = 253;
    bare.send(&probe);
    node.until_counted(DropReason::Probe, 1).await;
    assert_eq!((bare.receive(), node.count(DropReason::NoListener)), (Vec::new(), 0));
}
