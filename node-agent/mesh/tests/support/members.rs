//! Nodes with their paths: ends, and relays between them.

use std::collections::BTreeMap;

use rap_mesh::{
    Carries, Dial, KnownEnd, Mesh, PathEnd, PathEvent, PathPlan, PathSlot, PathTerms, Peer, Peers,
};
use rap_types::{Mono, NodeId, Reason};
use tokio::sync::mpsc::Receiver;

use super::*;

pub const A: u8 = 1;
pub const B: u8 = 2;
pub const RELAYS: [u8; 4] = [101, 102, 103, 104];

/// A node with its events of paths.
pub struct Member {
    pub node: Node,
    pub events: Receiver<PathEvent>,
}

impl Member {
    pub fn start(authority: &Authority, config: MeshConfig) -> Self {
        let node = Node::start(authority, config);
        let events = node.mesh.path_events().unwrap();
        assert!(node.mesh.path_events().is_none(), "one reader");
        Self { node, events }
    }

    pub fn mesh(&self) -> &Mesh {
        &self.node.mesh
    }

    /// Events until one fits.
    pub async fn until<T>(&mut self, wanted: impl Fn(&PathEvent) -> Option<T>) -> T {
        patiently(async {
            loop {
                let event = self.events.recv().await.unwrap();
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        })
        .await
    }

    pub async fn up(&mut self, wanted: PathSlot) -> PathEnd {
        self.until(|event| match event {
            PathEvent::Up { end, slot, .. } if *slot == wanted => Some(*end),
            _ => None,
        })
        .await
    }

    pub async fn datagram(&mut self) -> (PathEnd, Vec<u8>) {
        self.until(|event| match event {
            PathEvent::Received { end, datagram, .. } => Some((*end, datagram.to_vec())),
            _ => None,
        })
        .await
    }

    pub fn refused(&self, reason: Reason) -> u64 {
        self.node.refused(reason)
    }
}

pub fn known(numbers: &[u8]) -> BTreeMap<NodeId, KnownEnd> {
    let end = KnownEnd { organization: None, deadline: Mono(u64::MAX) };
    numbers.iter().map(|number| (node(*number), end)).collect()
}

pub fn terms(numbers: &[u8], is_relay: bool) -> PathTerms {
    let carries = is_relay.then_some(Carries { any_organization: true, draining: false });
    let known = known(numbers);
    PathTerms { organization: None, carries, lifetime_s: 40, instance: 1, deadline: Mono(u64::MAX), known }
}

/// Members who may link with everybody; plain nodes dial relays, relays dial each other when a path needs it.
pub fn network(authority: &Authority, numbers: &[u8]) -> BTreeMap<u8, Member> {
    network_with(authority, numbers, config)
}

/// As `network`, with the settings of each member.
pub fn network_with(
    authority: &Authority,
    numbers: &[u8],
    config: impl Fn(u8) -> MeshConfig,
) -> BTreeMap<u8, Member> {
    let start = |number: &u8| (*number, Member::start(authority, config(*number)));
    let members: BTreeMap<u8, Member> = numbers.iter().map(start).collect();
    for (number, member) in &members {
        let peers = members.iter().filter(|(other, _)| *other != number).map(|(other, there)| {
            let wants = *number < 100 && *other >= 100;
            let dialable = *other >= 100;
            let peer = Peer {
                endpoints: if dialable { vec![there.node.address()] } else { vec![] },
                deadline: Mono(u64::MAX),
                dial: if wants { Dial::AtOnce } else { Dial::OnDemand },
            };
            (node(*other), peer)
        });
        let peers = Peers {
            peers: peers.collect(),
            trust: authority.trust(&[]),
            newest_head: vec![],
            probe_interval: None,
            former: None,
        };
        member.mesh().apply(peers);
        member.mesh().set_paths(terms(numbers, *number >= 100), vec![]);
    }
    members
}

pub fn plan(to: u8, primary: &[u8], backup: Option<&[u8]>) -> Vec<PathPlan> {
    let relays = |relays: &[u8]| relays.iter().copied().map(node).collect::<Vec<_>>();
    vec![PathPlan { destination: node(to), primary: relays(primary), backup: backup.map(relays) }]
}

pub fn want(member: &Member, numbers: &[u8], plans: Vec<PathPlan>) {
    member.mesh().set_paths(terms(numbers, false), plans);
    member.mesh().want_path(node(B)).unwrap();
}
