//! Two nodes that reach each other through relays: real data planes on loopback addresses, without TUN.

mod support;

use rap_wire::v1::{ForwardingTable, PeerStats, TableLink, TablePath, TableRelay};
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
