//! What is remembered is bounded, and nothing of it outlives the snapshot that bears it out.

use rap_peers::{CacheChange, PEERS_MAX, PeerCache, PeerRow, ROUTES_MAX, RouteRow};
use rap_types::{Digest, NodeId, Wall};

fn node(number: u16) -> NodeId {
    let mut id = [9; 16];
    id[14..].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(id)
}

fn row(at: i64, identity: &[u8]) -> PeerRow {
    PeerRow {
        last_success_at: Wall(at),
        last_latency_us: 5_000,
        packet_loss_ppm: 0,
        reliability_permille: 0,
        fingerprint: Digest::of(&[identity]),
        scope: None,
        last_seen_config_version: 3,
        endpoint: String::new(),
    }
}

fn route(at: i64, relays: &[u16]) -> RouteRow {
    RouteRow { used_at: Wall(at), relays: relays.iter().map(|relay| node(*relay)).collect() }
}

type Stored = Vec<(NodeId, Vec<u8>)>;

/// What a disk has after these changes: peers and routes.
fn written(cache: &mut PeerCache) -> (Stored, Stored) {
    let (mut peers, mut routes) = (Vec::new(), Vec::new());
    for change in cache.take_changes(usize::MAX) {
        match change {
            CacheChange::Peer(node, value) => peers.extend(value.map(|value| (node, value))),
            CacheChange::Route(node, value) => routes.extend(value.map(|value| (node, value))),
        }
    }
    (peers, routes)
}

#[test]
fn the_next_start_has_what_was_written_and_the_oldest_rows_made_room() {
    let mut cache = PeerCache::default();
    for number in 0..2000 {
        cache.succeeded(node(number), row(i64::from(number), b"a"));
        cache.used(node(number), route(i64::from(number), &[1]));
    }
    assert_eq!((cache.peers().count(), cache.routes().count()), (PEERS_MAX, ROUTES_MAX));
    assert!(cache.peer(node(975)).is_none() && cache.peer(node(976)).is_some());
    let (peers, routes) = written(&mut cache);
    assert!(!cache.is_changed());
    let bytes: usize = peers.iter().chain(&routes).map(|(_, value)| value.len() + 16).sum();
    assert!(bytes < 256 * 1024, "{bytes}");
    let again = PeerCache::load(peers, routes);
    assert!(again.peers().eq(cache.peers()) && again.routes().eq(cache.routes()));
    assert!(!again.is_changed());
}

#[test]
fn changes_are_taken_out_in_bounded_portions_and_each_once() {
    let mut cache = PeerCache::default();
    (0..100).for_each(|number| cache.succeeded(node(number), row(1, b"a")));
    let portions: Vec<usize> = (0..3).map(|_| cache.take_changes(64).len()).collect();
    assert_eq!(portions, [64, 36, 0]);
}

#[test]
fn rows_of_another_identity_and_routes_through_strangers_are_dropped_at_start_and_on_disk() {
    let mut cache = PeerCache::default();
    cache.succeeded(node(1), row(1, b"a"));
    cache.succeeded(node(2), row(1, b"b"));
    cache.used(node(1), route(1, &[]));
    cache.used(node(2), route(1, &[7]));
    cache.used(node(3), route(1, &[8]));
    written(&mut cache);
    cache.verify(|_, row| row.fingerprint == Digest::of(&[b"a"]), |relay| relay == node(7));
    cache.retain_routes(|destination| destination != node(1));
    assert_eq!(cache.peers().map(|(node, _)| node).collect::<Vec<_>>(), [node(1)]);
    assert_eq!(cache.routes().map(|(node, _)| node).collect::<Vec<_>>(), [node(2)]);
    let removed = [
        CacheChange::Peer(node(2), None),
        CacheChange::Route(node(1), None),
        CacheChange::Route(node(3), None),
    ];
    assert_eq!(cache.take_changes(64), removed);
}

#[test]
fn damaged_rows_are_removed() {
    let mut cache = PeerCache::load(vec![(node(1), vec![9, 9])], vec![(node(2), vec![])]);
    assert_eq!((cache.peers().count(), cache.routes().count()), (0, 0));
    let removed = [CacheChange::Peer(node(1), None), CacheChange::Route(node(2), None)];
    assert_eq!(cache.take_changes(64), removed);
}

#[test]
fn failures_lower_the_reliability_and_successes_raise_it_and_an_inbound_link_keeps_the_endpoint() {
    let mut cache = PeerCache::default();
    cache.succeeded(node(1), PeerRow { endpoint: "192.0.2.1:7".into(), ..row(1, b"a") });
    let reliability = |cache: &PeerCache| cache.peer(node(1)).unwrap().reliability_permille;
    assert_eq!(reliability(&cache), 1000);
    (0..5).for_each(|_| cache.failed(node(1)));
    let low = reliability(&cache);
    assert!((400..600).contains(&low), "{low}");
    cache.succeeded(node(1), row(2, b"a"));
    assert!(reliability(&cache) > low);
    assert_eq!(cache.peer(node(1)).unwrap().endpoint, "192.0.2.1:7");
    (0..100).for_each(|_| cache.failed(node(1)));
    assert_eq!(reliability(&cache), 0);
}

#[test]
fn a_route_in_use_is_written_once_a_minute_and_at_once_when_its_way_changes() {
    let mut cache = PeerCache::default();
    let mut writes = |at: i64, relays: &[u16]| {
        cache.used(node(1), route(at, relays));
        !cache.take_changes(64).is_empty()
    };
    let told = [writes(0, &[1]), writes(59_000, &[1]), writes(59_500, &[2]), writes(120_000, &[2])];
    assert_eq!(told, [true, false, true, true]);
}
