//! Two data planes that may be linked with each other.

use rap_wire::v1::ForwardingTable;
use tempfile::{TempDir, tempdir};

use super::{Agent, Authority, DataPlane, Node, loopback, until};

/// Two nodes; the first is the one that links are dialled by.
pub struct Pair {
    pub authority: Authority,
    pub nodes: [Node; 2],
    pub dirs: [TempDir; 2],
    pub planes: [DataPlane; 2],
}

impl Pair {
    pub fn start() -> Self {
        let nodes = [1, 2].map(|number| Node { number, underlay: loopback() });
        let dirs = [tempdir().unwrap(), tempdir().unwrap()];
        let planes =
            [DataPlane::start(&dirs[0], nodes[0].underlay), DataPlane::start(&dirs[1], nodes[1].underlay)];
        Self { authority: Authority::new(), nodes, dirs, planes }
    }

    /// Both with their first tables, linked.
    pub fn linked() -> (Self, [Agent; 2]) {
        let pair = Self::start();
        let mut agents = [pair.planes[0].agent(), pair.planes[1].agent()];
        agents[1].apply(pair.table(1, 1));
        agents[0].apply(pair.table(0, 1));
        pair.await_link(&mut agents[0], 1);
        pair.await_link(&mut agents[1], 0);
        (pair, agents)
    }

    /// Table of node `of`, with the other as its peer.
    pub fn table(&self, of: usize, version: u64) -> ForwardingTable {
        self.nodes[of].table(&self.authority, version, &[self.nodes[1 - of]])
    }

    pub fn id(&self, of: usize) -> Vec<u8> {
        self.nodes[of].id().to_vec()
    }

    pub fn await_link(&self, agent: &mut Agent, peer: usize) {
        let id = self.id(peer);
        until("linked", || agent.stats_of(&id).filter(|peer| peer.link_state == "established"));
    }
}

pub fn link_is(agent: &mut Agent, peer: &[u8], state: &str, reason: &str) {
    until(&format!("{state} {reason}"), || {
        agent.stats_of(peer).filter(|peer| peer.link_state == state && peer.link_reason == reason)
    });
}
