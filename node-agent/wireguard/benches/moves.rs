//! How long the traffic of a peer stands still when its direct way is cut without a word, and when it is direct again.
//!
//! In-process devices over loopback UDP that can be cut, and paths of 10 ms each way that stand [`INSTALL`] after they
//! are asked for. Prints one JSON row per measure. `--quick`: 20 trials instead of 200, without a 99th percentile.

#![allow(dead_code)]

#[path = "../tests/fixture/mod.rs"]
mod fixture;
#[path = "../tests/loopback/network.rs"]
mod network;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fixture::*;
use network::{Paths, UdpWay};
use rap_wireguard::{PathSlot, Peer, Way};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

/// What one trial gave.
struct Trial {
    first_packet: Duration,
    relayed: Duration,
    back: Duration,
}

fn main() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let rounds = if std::env::args().any(|argument| argument == "--quick") { 1 } else { 10 };
    let mut trials = Vec::new();
    for _ in 0..rounds {
        trials.extend(runtime.block_on(async {
            let mut together = JoinSet::new();
            for _ in 0..TOGETHER {
                together.spawn(trial());
            }
            together.join_all().await
        }));
    }
    row("first_packet_ms", 300, trials.iter().map(|trial| trial.first_packet).collect());
    row("cut_to_relayed_ms", 1500, trials.iter().map(|trial| trial.relayed).collect());
    row("back_to_direct_ms", 30_000, trials.iter().map(|trial| trial.back).collect());
}

fn row(id: &str, bar: u64, mut values: Vec<Duration>) {
    values.sort_unstable();
    let at = |share: usize| values[(values.len() * share / 1000).min(values.len() - 1)].as_millis();
    let p99 = if values.len() >= 200 { at(990).to_string() } else { "null".to_owned() };
    let (count, p50, max) = (values.len(), at(500), at(1000));
    println!(r#"{{"id":"{id}","count":{count},"p50":{p50},"p99":{p99},"max":{max},"bar":{bar}}}"#);
}

/// Two nodes: a first packet through a path, direct, cut, relayed, direct again.
async fn trial() -> Trial {
    let paths = Paths::new(Duration::from_millis(10), 1, 0);
    let way = UdpWay::new();
    let a = Arc::new(Node::start_with(1, "127.0.0.1", Some(paths.port(0))).await);
    let b = Node::start_with(2, "127.0.0.2", Some(paths.port(1))).await;
    let known = |endpoint: Option<SocketAddr>| Peer { relayed: true, ..peer(2, endpoint.as_slice()) };
    a.apply(vec![known(None)]).await;
    b.apply(vec![Peer { relayed: true, ..peer(1, &[]) }]).await;
    let measure = async {
        let begin = now();
        let (answer, ()) = tokio::join!(answered(&a), path(&paths, 1, 0, [&a, &b]));
        let first_packet = answer.since(begin);
        a.apply(vec![known(Some(way.endpoint()))]).await;
        direct(&a).await;
        paths.down(1, [&a, &b]).await;

        let asked = paths.port(0).wanted.load(Ordering::Relaxed);
        way.open.store(false, Ordering::Relaxed);
        let begin = now();
        let (answer, ()) = tokio::join!(answered(&a), path(&paths, 2, asked, [&a, &b]));
        let relayed = answer.since(begin);
        way.open.store(true, Ordering::Relaxed);
        let begin = now();
        direct(&a).await;
        Trial { first_packet, relayed, back: now().since(begin) }
    };
    let (near, far) = (a.device.local_addr(), b.device.local_addr());
    tokio::select! {
        () = paths.carry([&a, &b]) => unreachable!("it carries for ever"),
        () = way.carry(near, far) => unreachable!("it carries for ever"),
        trial = measure => trial,
    }
}

/// A path stands soon after it was asked for once more than so often.
async fn path(paths: &Paths, end: u64, asked: u64, nodes: [&Node; 2]) {
    until("a path is wanted", || paths.port(0).wanted.load(Ordering::Relaxed) > asked).await;
    tokio::time::sleep(INSTALL).await;
    paths.up(end, PathSlot::Primary, nodes).await;
}

/// Pings every 10 ms; when the first of them was answered.
async fn answered(node: &Arc<Node>) -> rap_types::Mono {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let mut pings = JoinSet::new();
    for sequence in 0.. {
        tokio::select! {
            _ = ticks.tick() => {
                let node = node.clone();
                pings.spawn(async move { node.device.ping(v4(2), sequence, SECOND).await.map(|_| now()) });
            }
            Some(Ok(Ok(answered))) = pings.join_next() => return answered,
        }
    }
    unreachable!("there are enough numbers")
}

/// Pings until the peer is reached directly.
async fn direct(node: &Node) {
    while !matches!(node.stats_of(2).way, Some(Way::Udp(_))) {
        let _unanswered = node.device.ping(v4(2), 0, Duration::from_millis(50)).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Longer, and so many pings would wait that no other is sent.
const SECOND: Duration = Duration::from_secs(1);
const TOGETHER: usize = 20;
/// Three times the round trip of a relay that is 20 ms away.
const INSTALL: Duration = Duration::from_millis(60);
