//! Protocol 2 against real processes: parts, changes, marks, revocations of their own, limits.
//!
//! The other tests speak protocol 1, as an agent of the release before.

mod support;

use std::time::Duration;

use nix::sys::signal::Signal;
use rap_types::limits;
use rap_wire::v1::agent_message::Body as Ask;
use rap_wire::v1::dataplane_message::Body as Answer;
use rap_wire::v1::{ForwardingTable, RevokeCommand, TableAck, TableDelta, TableLink, TablePart};
use support::*;
use tempfile::tempdir;

#[test]
fn an_agent_of_the_release_before_gets_whole_tables_only() {
    let dir = tempdir().unwrap();
    let plane = DataPlane::start(&dir, loopback());
    let mut old = plane.agent();
    for newer in [
        Ask::TableDelta(TableDelta::default()),
        Ask::TablePart(TablePart::default()),
        Ask::Revoke(RevokeCommand::default()),
    ] {
        assert_eq!(old.refused(newer), "request.invalid");
    }
    assert_eq!(old.stats().table_version, 0, "and it stays the controller");
}

#[test]
fn a_change_needs_its_base_and_keeps_every_session() {
    let (pair, [old, mut other]) = Pair::linked();
    drop(old);
    let mut agent = pair.planes[0].new_agent();
    let third = Node { number: 3, underlay: loopback() };
    let add = |base_version, version| TableDelta {
        base_version,
        version,
        peers: vec![peer_of(&third)],
        ..Default::default()
    };
    assert_eq!(agent.refused(Ask::TableDelta(add(7, 8))), "dataplane.table_base");
    assert_eq!(agent.refused(Ask::TableDelta(add(1, 1))), "dataplane.table");
    let before = agent.stats_of(&pair.id(1)).unwrap();
    agent.change(add(1, 2));
    assert_eq!(agent.stats().peers.len(), 2);
    let removed = vec![third.id().to_vec()];
    agent.change(TableDelta { base_version: 2, version: 3, removed, ..Default::default() });
    let stats = agent.stats();
    assert_eq!((stats.table_version, stats.peers.len()), (3, 1));
    assert!(stats.peers[0].link_state == "established" && stats.peers[0].tx_bytes >= before.tx_bytes);
    let outcome = other.ping(&pair.id(0), 2);
    assert_eq!((answered(&outcome.overlay), answered(&outcome.link)), (2, 2));
    // A data plane that starts anew has no base.
    let fresh = tempdir().unwrap();
    let plane = DataPlane::start(&fresh, loopback());
    assert_eq!(plane.new_agent().refused(Ask::TableDelta(add(3, 4))), "dataplane.table_base");
}

#[test]
fn a_preshared_key_must_be_the_same_at_both_ends() {
    let (pair, olds) = Pair::linked();
    drop(olds);
    let mut agents = [pair.planes[0].new_agent(), pair.planes[1].new_agent()];
    let with = |of: usize, version: u64, secret: u8| {
        let mut peer = peer_of(&pair.nodes[1 - of]);
        peer.preshared_key = vec![secret; 32];
        TableDelta { base_version: version - 1, version, peers: vec![peer], ..Default::default() }
    };
    agents[0].change(with(0, 2, 5));
    agents[1].change(with(1, 2, 6));
    let outcome = agents[0].ping(&pair.id(1), 1);
    assert_eq!(
        (answered(&outcome.overlay), answered(&outcome.link)),
        (0, 1),
        "links have nothing to do with it"
    );
    agents[1].change(with(1, 3, 5));
    until("the tunnel is up", || (answered(&agents[0].ping(&pair.id(1), 1).overlay) == 1).then_some(()));
}

#[test]
fn a_known_peer_is_not_linked_unless_it_is_marked() {
    let (pair, olds) = Pair::linked();
    drop(olds);
    let mut agents = [pair.planes[0].new_agent(), pair.planes[1].new_agent()];
    let marked = |of: usize, version: u64, link: TableLink| {
        let mut peer = peer_of(&pair.nodes[1 - of]);
        peer.link = link.into();
        TableDelta { base_version: version - 1, version, peers: vec![peer], ..Default::default() }
    };
    agents[0].change(marked(0, 2, TableLink::None));
    until("the link ends", || {
        agents[1].stats_of(&pair.id(0)).filter(|peer| peer.link_state != "established")
    });
    let outcome = agents[0].ping(&pair.id(1), 1);
    assert_eq!(
        (answered(&outcome.overlay), answered(&outcome.link)),
        (1, 0),
        "it is known: the tunnel stays"
    );
    // Neither dials now; the smaller id would.
    agents[0].change(marked(0, 3, TableLink::Accept));
    agents[1].change(marked(1, 2, TableLink::Accept));
    std::thread::park_timeout(Duration::from_secs(3));
    assert_ne!(agents[0].stats_of(&pair.id(1)).unwrap().link_state, "established");
    agents[1].change(marked(1, 3, TableLink::Dial));
    pair.await_link(&mut agents[0], 1);
}

#[test]
fn a_revocation_takes_effect_without_a_table_and_before_the_first_one() {
    let (pair, [old, mut other]) = Pair::linked();
    drop(old);
    let mut agent = pair.planes[0].new_agent();
    agent.revoke(pair.id(1), 1);
    assert_eq!(agent.stats().peers, []);
    assert_eq!(agent.stats().table_version, 1, "the table is the same");
    until("the link ends", || other.stats_of(&pair.id(0)).filter(|peer| peer.link_state != "established"));
    assert_eq!(answered(&other.ping(&pair.id(0), 1).overlay), 0);
    agent.apply(pair.table(0, 2));
    assert_eq!(agent.stats().peers, [], "a table that does not say it yet takes nothing back");

    let fresh = tempdir().unwrap();
    let own = Node { number: 1, underlay: loopback() };
    let plane = DataPlane::start(&fresh, own.underlay);
    let mut agent = plane.new_agent();
    agent.revoke(pair.id(1), 1);
    agent.apply(own.table(&pair.authority, 1, &[pair.nodes[1]]));
    assert_eq!(agent.stats().peers, []);
}

#[test]
fn a_later_probe_interval_takes_effect_on_a_live_link() {
    let (pair, olds) = Pair::linked();
    drop(olds);
    let mut agent = pair.planes[0].new_agent();
    let every = |base_version, probe_interval_ms| {
        let table = pair.table(0, 0);
        let header = ForwardingTable { probe_interval_ms, peers: Vec::new(), ..table };
        TableDelta { base_version, version: base_version + 1, header: Some(header), ..Default::default() }
    };
    agent.change(every(1, 60_000));
    agent.change(every(2, 100));
    assert_eq!(agent.stats_of(&pair.id(1)).unwrap().link_state, "established");
    let clock = rap_runtime::Clock::new();
    let begin = clock.now().mono;
    pair.planes[1].signal(Signal::SIGSTOP);
    link_is(&mut agent, &pair.id(1), "closed", "link.silent");
    // One interval of silence and six probes; 17 s by the default, over a minute by the first table.
    let noticed = clock.now().mono.since(begin);
    assert!(noticed < Duration::from_secs(8), "{noticed:?}");
    pair.planes[1].signal(Signal::SIGCONT);
}

#[test]
fn five_thousand_peers_come_in_parts_and_a_change_is_small() {
    let (dir, authority) = (tempdir().unwrap(), Authority::new());
    let own = Node { number: 1, underlay: loopback() };
    let plane = DataPlane::start(&dir, own.underlay);
    let mut agent = plane.new_agent();
    let empty = agent.stats().rss_bytes;
    let mut table = own.table(&authority, 1, &[]);
    table.peers = crowd(5000, u16::try_from(limits::ACTIVE_SET_MAX).unwrap());
    let clock = rap_runtime::Clock::new();
    let begin = clock.now().mono;
    assert_eq!(agent.in_parts(table, 1500), Answer::TableAck(TableAck { version: 1 }));
    let applied = clock.now().mono.since(begin);
    assert_eq!(agent.stats().peers.len(), 5000);
    let mut changed = crowd(1, 1);
    changed[0].wireguard_endpoints = vec!["192.0.2.9:51820".to_owned()];
    let begin = clock.now().mono;
    agent.change(TableDelta { base_version: 1, version: 2, peers: changed, ..Default::default() });
    let change = clock.now().mono.since(begin);
    let stats = agent.stats();
    println!("whole: {applied:?}, change: {change:?}, resident: {empty} to {}", stats.rss_bytes);
    assert_eq!((stats.table_version, stats.peers.len()), (2, 5000));
    assert!(stats.rss_bytes < 160 << 20, "{} bytes", stats.rss_bytes);
}

#[test]
fn above_the_limit_a_table_is_refused_and_a_revocation_still_closes_the_link() {
    let (pair, [old, mut other]) = Pair::linked();
    drop(old);
    let mut agent = pair.planes[0].new_agent();
    let mut table = pair.table(0, 2);
    table.peers.extend(crowd(u16::try_from(limits::TABLE_PEERS_MAX).unwrap(), 0));
    let Answer::Refusal(refusal) = agent.in_parts(table, 2000) else { panic!("taken") };
    assert_eq!(refusal.reason, "dataplane.table_too_large");
    assert_eq!(agent.stats().table_version, 1, "the table before it stays, and so does the connection");
    agent.revoke(pair.id(1), 1);
    until("the link ends", || other.stats_of(&pair.id(0)).filter(|peer| peer.link_state != "established"));
}
