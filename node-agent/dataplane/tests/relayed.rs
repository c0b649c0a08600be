//! Two nodes that reach each other through relays: real data planes on loopback addresses, without TUN.

mod support;

use rap_wire::v1::{ForwardingTable, PathRefused, PeerStats, TableLink, TablePath, TableRelay};
use support::*;
use tempfile::{TempDir, tempdir};

/// Two nodes without an address of each other, and two relays.
struct Cluster {
    authority: Authority,
    nodes: [Node; 4],
    _dirs: [TempDir; 4],
    planes: [DataPlane; 4],
}

const ENDS: [usize; 2] = [0, 1];
const RELAYS: [usize; 2] = [2, 3];

impl Cluster {
    /// All four with their first tables.
    fn start() -> (Self, [Agent; 4]) {
        let nodes = [1, 2, 3, 4].map(|number| Node { number, underlay: loopback() });
        let dirs = [(); 4].map(|()| tempdir().unwrap());
        let planes = [0, 1, 2, 3].map(|of| DataPlane::start(&dirs[of], nodes[of].underlay));
        let cluster = Self { authority: Authority::new(), nodes, _dirs: dirs, planes };
        let mut agents = [0, 1, 2, 3].map(|of| cluster.planes[of].new_agent());
        for relay in RELAYS {
            agents[relay].apply(cluster.of_relay(relay));
        }
        for end in ENDS {
            agents[end].apply(cluster.of_end(end, 1));
        }
        (cluster, agents)
    }

    fn of_relay(&self, relay: usize) -> ForwardingTable {
        let ends = ENDS.map(|end| self.nodes[end]);
        let mut table = self.nodes[relay].table(&self.authority, 1, &ends);
        table.relay = Some(TableRelay { any_organization: true, ..Default::default() });
        for peer in &mut table.peers {
            peer.link = TableLink::Accept.into();
            peer.link_endpoints.clear();
        }
        table
    }

    fn of_end(&self, end: usize, version: u64) -> ForwardingTable {
        let peers = [self.nodes[1 - end], self.nodes[RELAYS[0]], self.nodes[RELAYS[1]]];
        let mut table = self.nodes[end].table(&self.authority, version, &peers);
        table.relays = RELAYS.map(|relay| self.id(relay)).to_vec();
        table.path_instance = 1;
        let other = &mut table.peers[0];
        other.link = TableLink::None.into();
        other.link_endpoints.clear();
        other.wireguard_endpoints.clear();
        other.primary = Some(TablePath { relays: vec![0] });
        other.backup = Some(TablePath { relays: vec![1] });
        table
    }

    fn id(&self, of: usize) -> Vec<u8> {
        self.nodes[of].id().to_vec()
    }
}

/// Pings until there is an answer and the peer is reached like this.
fn reached(agent: &mut Agent, peer: &[u8], what: &str, is: impl Fn(&PeerStats) -> bool) -> PeerStats {
    until(what, || {
        let outcome = agent.ping(peer, 1);
        agent.stats_of(peer).filter(|stats| answered(&outcome.overlay) == 1 && is(stats))
    })
}

#[test]
fn a_relay_dies_without_an_agent_and_the_traffic_goes_on_through_the_other_one() {
    let (mut cluster, [orphan, mut other, first, second]) = Cluster::start();
    assert!(other.hello.features.contains(&"paths".to_owned()));
    drop([orphan, first, second]);
    let (a, b) = (cluster.id(0), cluster.id(1));
    let relayed = reached(&mut other, &a, "relayed", |stats| stats.way == "relayed");
    assert_eq!((relayed.wireguard_endpoint.as_str(), relayed.link_state.as_str()), ("", "closed"));
    let outcome = other.ping(&a, 3);
    assert_eq!((answered(&outcome.overlay), answered(&outcome.link)), (3, 0), "{outcome:?}");
    assert_eq!((outcome.way.as_str(), outcome.via.len()), ("relayed", 1));

    let used = (0..2).find(|relay| relayed.via == [cluster.id(RELAYS[*relay])]).expect("one of the relays");
    let spare = cluster.id(RELAYS[1 - used]);
    cluster.planes[RELAYS[used]].kill();
    reached(&mut other, &a, "through the other relay", |stats| stats.via == [spare.clone()]);

    // A new agent adopts what stands, and its tables end no path.
    let mut next = cluster.planes[0].new_agent();
    assert_eq!(next.hello.table_version, 1);
    let stats = next.stats_of(&b).unwrap();
    assert_eq!((stats.way.as_str(), stats.via.clone()), ("relayed", vec![spare.clone()]));
    next.apply(cluster.of_end(0, 2));
    assert_eq!(next.stats_of(&b).unwrap().via, [spare]);
    assert_eq!(answered(&next.ping(&b, 3).overlay), 3);

    // An address that works: the traffic goes there, and a node that was told nothing follows.
    let mut table = cluster.of_end(0, 3);
    table.peers[0].wireguard_endpoints = vec![format!("{}:51820", cluster.nodes[1].underlay)];
    next.apply(table);
    reached(&mut next, &b, "direct", |stats| stats.way == "direct" && stats.via.is_empty());
    assert_eq!(next.ping(&b, 1).way, "direct");
    reached(&mut other, &a, "direct", |stats| stats.way == "direct");
    let drops = other.stats().drops;
    assert!(drops.iter().any(|drop| drop.reason == "wireguard.path_full"), "every reason is listed");
}

#[test]
fn a_peer_that_a_table_takes_away_is_reached_no_more() {
    let (cluster, mut agents) = Cluster::start();
    let (a, b) = (cluster.id(0), cluster.id(1));
    reached(&mut agents[0], &b, "relayed", |stats| stats.way == "relayed");
    agents[0].revoke(b, 1);
    until("nobody answers", || (answered(&agents[1].ping(&a, 1).overlay) == 0).then_some(()));
    let ways = until("no way is left", || {
        agents[1].ping(&a, 1);
        agents[1].stats_of(&a).filter(|stats| stats.way.is_empty())
    });
    assert!(ways.via.is_empty());
}

/// a - r1 - r2 - r3 - b: each relay is linked with its neighbours in the row, a with r1 alone, b with r3 alone.
#[test]
fn three_relays_in_a_row_carry_where_no_single_one_reaches_both_ends() {
    const ROW: [usize; 5] = [0, 2, 3, 4, 1];
    let authority = Authority::new();
    let nodes = [1, 2, 3, 4, 5].map(|number| Node { number, underlay: loopback() });
    let dirs = [(); 5].map(|()| tempdir().unwrap());
    let planes = [0, 1, 2, 3, 4].map(|of| DataPlane::start(&dirs[of], nodes[of].underlay));
    let mut agents = [0, 1, 2, 3, 4].map(|of| planes[of].new_agent());
    let id = |of: usize| nodes[of].id().to_vec();
    let relays = || [2, 3, 4].map(id).to_vec();
    let linked =
        |one: usize, other: usize| ROW.windows(2).any(|pair| pair == [one, other] || pair == [other, one]);
    let table_of = |of: usize, version: u64, path: &[u32]| {
        let others: Vec<Node> = (0..5).filter(|other| *other != of).map(|other| nodes[other]).collect();
        let mut table = nodes[of].table(&authority, version, &others);
        (table.relays, table.path_instance) = (relays(), 1);
        if of > 1 {
            table.relay = Some(TableRelay { any_organization: true, ..Default::default() });
        }
        for peer in &mut table.peers {
            let other = (0..5).find(|other| id(*other) == peer.node_id).unwrap();
            if !linked(of, other) {
                (peer.link_endpoints, peer.wireguard_endpoints) = (Vec::new(), Vec::new());
                peer.link = TableLink::None.into();
            }
            if [of, other] == [0, 1] {
                peer.primary = Some(TablePath { relays: path.to_vec() });
            }
        }
        table
    };
    for of in [2, 3, 4, 1] {
        agents[of].apply(table_of(of, 1, &[]));
    }
    // The first relay has no link with b: a hears so.
    agents[0].apply(table_of(0, 1, &[0]));
    let refused = PathRefused {
        destination: id(1),
        relays: vec![id(2)],
        reason: "path.next_unreachable".into(),
        passed: Some(0),
    };
    until("the refusal", || {
        agents[0].ping(&id(1), 1);
        agents[0].refused.contains(&refused).then_some(())
    });
    agents[0].apply(table_of(0, 2, &[0, 1, 2]));
    let reached = reached(&mut agents[0], &id(1), "through three relays", |stats| stats.way == "relayed");
    assert_eq!(reached.via, relays());
    assert_eq!(answered(&agents[0].ping(&id(1), 3).overlay), 3);
    assert_eq!(answered(&agents[1].ping(&id(0), 3).overlay), 3, "b answers on the path that a installed");
}
