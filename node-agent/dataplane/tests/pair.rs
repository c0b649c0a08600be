//! Two real data planes on loopback addresses, without TUN.

mod support;

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rap_wire::v1::TableRevoked;
use support::*;
use tempfile::tempdir;

#[test]
fn tables_make_a_link_and_a_tunnel_and_both_answer() {
    let (pair, mut agents) = Pair::linked();
    for (own, peer) in [(0, 1), (1, 0)] {
        let outcome = agents[own].ping(&pair.id(peer), 3);
        assert_eq!((answered(&outcome.overlay), answered(&outcome.link)), (3, 3), "{outcome:?}");
        assert_eq!(outcome.overlay.iter().map(|sample| sample.sequence).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(outcome.overlay_address, pair.nodes[peer].overlay_v4());
        assert_eq!(outcome.link_state, "established");
        let stats = agents[own].stats();
        let of_peer = &stats.peers[0];
        assert!(of_peer.handshake_age_ms > 0 && of_peer.rx_bytes > 0 && of_peer.tx_bytes > 0);
        assert!(of_peer.link_rtt_ns > 0 && of_peer.link_reason.is_empty());
        assert_eq!(of_peer.wireguard_endpoint, format!("{}:51820", pair.nodes[peer].underlay));
        assert!(stats.drops.iter().any(|drop| drop.reason == "wireguard.no_peer"));
        assert!(agents[own].events.iter().any(|event| event.state == "established"));
        assert!(stats.rss_bytes > 0);
    }
}

#[test]
fn without_an_agent_everything_goes_on_and_the_next_one_adopts_it() {
    let (pair, [orphan, mut other]) = Pair::linked();
    let instance = orphan.hello.instance_id.clone();
    let peer = pair.id(1);
    drop(orphan);
    let outcome = other.ping(&pair.id(0), 5);
    assert_eq!((answered(&outcome.overlay), answered(&outcome.link)), (5, 5), "{outcome:?}");

    let mut next = pair.planes[0].agent();
    assert_eq!((next.hello.instance_id.clone(), next.hello.table_version), (instance, 1));
    until("the present state is told", || {
        next.stats();
        next.events.iter().find(|event| event.node_id == peer && event.state == "established").cloned()
    });
    let before = next.stats_of(&peer).unwrap();
    // A renewed leaf and an equal peer: nothing starts afresh.
    next.apply(pair.table(0, 2));
    let after = next.stats_of(&peer).unwrap();
    assert_eq!(after.link_state, "established");
    assert!(after.handshake_age_ms >= before.handshake_age_ms && after.tx_bytes >= before.tx_bytes);
    let outcome = next.ping(&peer, 2);
    assert_eq!((answered(&outcome.overlay), answered(&outcome.link)), (2, 2));
    assert!(next.events.iter().all(|event| event.state == "established"), "{:?}", next.events);
}

#[test]
fn a_peers_deadline_ends_link_and_tunnel_without_an_agent() {
    let (pair, [mut agent, mut other]) = Pair::linked();
    let peer = pair.id(1);
    assert_eq!(answered(&agent.ping(&peer, 1).overlay), 1);
    let mut table = pair.table(0, 2);
    table.peers[0].deadline_ns = mono(Duration::from_secs(1));
    agent.apply(table);
    drop(agent);
    link_is(&mut other, &pair.id(0), "closed", "link.permit_expired");
    let mut agent = pair.planes[0].agent();
    link_is(&mut agent, &peer, "closed", "link.permit_expired");
    until("no tunnel", || agent.stats_of(&peer).filter(|peer| peer.wireguard_endpoint.is_empty()));
    let outcome = other.ping(&pair.id(0), 1);
    assert_eq!((answered(&outcome.overlay), answered(&outcome.link)), (0, 0));

    agent.apply(pair.table(0, 3));
    pair.await_link(&mut agent, 1);
    assert_eq!(answered(&agent.ping(&peer, 1).overlay), 1, "a newer table opens it again");
}

#[test]
fn the_tables_deadline_spares_only_what_survives_for_ever() {
    let (pair, [mut agent, mut other]) = Pair::linked();
    let (peer, doomed) = (pair.id(1), Node { number: 3, underlay: loopback() });
    let mut table = pair.nodes[0].table(&pair.authority, 2, &[pair.nodes[1], doomed]);
    table.deadline_ns = mono(Duration::from_secs(1));
    table.peers[0].survive_forever = true;
    agent.apply(table);
    let has_tunnel = |stats: rap_wire::v1::PeerStats| !stats.wireguard_endpoint.is_empty();
    assert!(agent.stats_of(&doomed.id().to_vec()).is_some_and(has_tunnel));
    until("the other peer goes", || {
        agent.stats_of(&doomed.id().to_vec()).filter(|peer| peer.wireguard_endpoint.is_empty())
    });
    let outcome = other.ping(&pair.id(0), 2);
    assert_eq!((answered(&outcome.overlay), answered(&outcome.link)), (2, 2), "the survivor stays");
    assert!(agent.stats_of(&peer).is_some_and(has_tunnel));

    let mut table = pair.table(0, 3);
    table.deadline_ns = mono(Duration::from_secs(1));
    agent.apply(table);
    link_is(&mut agent, &peer, "closed", "link.permit_expired");
    until("no tunnel", || agent.stats_of(&peer).filter(|peer| peer.wireguard_endpoint.is_empty()));
}

#[test]
fn the_end_of_the_own_leaf_ends_links_and_tunnels() {
    let (pair, [mut agent, mut other]) = Pair::linked();
    let peer = pair.id(1);
    let mut table = pair.table(0, 2);
    table.identity.as_mut().unwrap().deadline_ns = mono(Duration::from_secs(1));
    agent.apply(table);
    link_is(&mut agent, &peer, "closed", "link.permit_expired");
    until("no tunnel", || agent.stats_of(&peer).filter(|peer| peer.wireguard_endpoint.is_empty()));
    assert_eq!(answered(&other.ping(&pair.id(0), 1).overlay), 0);
}

#[test]
fn what_survives_the_table_for_ever_ends_with_the_own_leaf_link_and_tunnel() {
    let (pair, [mut agent, mut other]) = Pair::linked();
    let (peer, doomed) = (pair.id(1), Node { number: 3, underlay: loopback() });
    let mut table = pair.nodes[0].table(&pair.authority, 2, &[pair.nodes[1], doomed]);
    table.deadline_ns = mono(Duration::from_millis(500));
    table.peers[0].survive_forever = true;
    agent.apply(table.clone());
    until("the table has ended", || {
        agent.stats_of(&doomed.id().to_vec()).filter(|peer| peer.wireguard_endpoint.is_empty())
    });
    let outcome = other.ping(&pair.id(0), 1);
    assert_eq!((answered(&outcome.overlay), answered(&outcome.link)), (1, 1), "the survivor stays");
    table.version = 3;
    table.identity.as_mut().unwrap().deadline_ns = mono(Duration::from_secs(1));
    agent.apply(table);
    link_is(&mut agent, &peer, "closed", "link.permit_expired");
    until("no tunnel", || agent.stats_of(&peer).filter(|peer| peer.wireguard_endpoint.is_empty()));
    let outcome = other.ping(&pair.id(0), 1);
    assert_eq!((answered(&outcome.overlay), answered(&outcome.link)), (0, 0));
}

#[test]
fn a_killed_data_plane_recovers_with_a_new_table() {
    let (mut pair, [agent, mut other]) = Pair::linked();
    let instance = agent.hello.instance_id.clone();
    assert_eq!(answered(&other.ping(&pair.id(0), 1).overlay), 1);
    pair.planes[0].kill();
    drop(agent);
    until("the link is missed", || {
        other.stats_of(&pair.id(0)).filter(|peer| peer.link_state != "established")
    });
    pair.planes[0] = DataPlane::start(&pair.dirs[0], pair.nodes[0].underlay);
    let mut agent = pair.planes[0].agent();
    assert_ne!(agent.hello.instance_id, instance);
    assert_eq!(agent.hello.table_version, 0);
    agent.apply(pair.table(0, 1));
    pair.await_link(&mut agent, 1);
    assert_eq!(answered(&agent.ping(&pair.id(1), 2).overlay), 2);
    pair.await_link(&mut other, 0);
    let outcome = other.ping(&pair.id(0), 2);
    assert_eq!((answered(&outcome.overlay), answered(&outcome.link)), (2, 2), "{outcome:?}");
}

#[test]
fn a_revocation_ends_link_and_tunnel_at_once() {
    let (pair, [mut agent, mut other]) = Pair::linked();
    let mut table = pair.table(0, 2);
    table.revoked.push(TableRevoked { node_id: pair.id(1), key_generation: 1 });
    agent.apply(table);
    assert_eq!(agent.stats().peers, []);
    assert_eq!(answered(&other.ping(&pair.id(0), 1).overlay), 0);
    until("the link ends", || other.stats_of(&pair.id(0)).filter(|peer| peer.link_state != "established"));
}

#[test]
fn a_new_wireguard_key_starts_the_tunnel_afresh_and_leaves_the_link() {
    let (pair, [mut agent, mut other]) = Pair::linked();
    assert_eq!(answered(&agent.ping(&pair.id(1), 1).overlay), 1);
    // Both sides dial at first, and one of the two links may have been given up by now.
    let before = agent.events.len();
    let rekeyed = Node { number: 9, ..pair.nodes[0] };
    let mut table = pair.table(0, 2);
    table.wireguard_private_key = rekeyed.table(&pair.authority, 1, &[]).wireguard_private_key;
    agent.apply(table);
    let mut table = pair.table(1, 2);
    table.peers[0].wireguard_public_key = peer_of(&rekeyed).wireguard_public_key;
    other.apply(table);
    assert_eq!(answered(&agent.ping(&pair.id(1), 2).overlay), 2);
    let since = &agent.events[before..];
    assert!(since.iter().all(|event| event.state != "closed"), "{since:?}");
}

#[test]
fn a_table_without_a_leaf_carries_tunnels_only() {
    let (pair, [mut agent, mut other]) = Pair::linked();
    let mut table = pair.table(0, 2);
    table.identity = None;
    agent.apply(table);
    let outcome = agent.ping(&pair.id(1), 2);
    assert_eq!((answered(&outcome.overlay), answered(&outcome.link)), (2, 0));
    until("the link ends", || other.stats_of(&pair.id(0)).filter(|peer| peer.link_state != "established"));
}

#[test]
fn fifty_peers_fit_into_little_memory() {
    let (dir, authority) = (tempdir().unwrap(), Authority::new());
    let own = Node { number: 1, underlay: loopback() };
    // Nobody listens there: every one is dialled and refused again and again.
    let peers: Vec<Node> = (2..52).map(|number| Node { number, underlay: own.underlay }).collect();
    let plane = DataPlane::start(&dir, own.underlay);
    let mut agent = plane.agent();
    agent.apply(own.table(&authority, 1, &peers));
    until("all were tried", || {
        let tried = agent.stats().peers;
        tried.iter().all(|peer| !peer.link_reason.is_empty()).then_some(())
    });
    // Without the pages of the program's code: those of a debug program are many, and are not what peers cost.
    let status = std::fs::read_to_string(format!("/proc/{}/status", plane.child.id())).unwrap();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kilobytes: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    println!("resident: {}, anonymous: {kilobytes} kB", agent.stats().rss_bytes);
    assert!(kilobytes < 6 << 10, "{kilobytes} kB");
}

#[test]
fn logs_that_nobody_reads_any_more_stop_nothing() {
    let dir = tempdir().unwrap();
    let (authority, node) = (Authority::new(), Node { number: 1, underlay: loopback() });
    let mut command = Command::new(env!("CARGO_BIN_EXE_rap-dataplane"));
    command.args(arguments(&dir, node.underlay)).arg("--no-tun").stderr(Stdio::piped());
    let mut plane = DataPlane::start_as(&mut command, &dir);
    let mut first = [0];
    let mut log = plane.child.stderr.take().unwrap();
    log.read_exact(&mut first).unwrap();
    drop(log);
    // Each of these writes a line.
    for version in 1..4 {
        let mut agent = plane.agent();
        agent.apply(node.table(&authority, version, &[]));
        assert_eq!(agent.stats().table_version, version);
    }
    plane.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(plane.ended().code(), Some(0));
}
