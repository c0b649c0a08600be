//! One data plane of a run: the shipped core of paths and choice of ways, and what stands around them.

use std::collections::BTreeMap;

use rap_link::path::{PathEnd, PathLimits, PathSlot, Paths};
use rap_types::{Mono, NodeId};
use rap_wireguard::Ways;

use super::leaf::Leaf;
use super::ledger::Ledger;
use super::table::Facts;
use super::tunnel::Window;

/// How a relay treats what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    Honest,
    /// It answers, and drops what it should carry, withdrawals too.
    Swallows,
    /// It changes payloads.
    Modifies,
    /// It sends frames on with the label of another path.
    Splices,
}

/// What a node has for one peer.
#[derive(Default)]
pub struct Peer {
    pub ways: Ways,
    pub window: Window,
    /// A datagram that waits for a way.
    pub held: u32,
    /// When traffic of the peer came last.
    pub heard: Option<Mono>,
    pub armed: Option<Mono>,
    /// Which path was in use when it was looked at last.
    pub used: Option<PathSlot>,
}

/// A data plane while its process runs.
pub struct Plane {
    pub core: Paths,
    pub peers: BTreeMap<NodeId, Peer>,
    pub ledger: Ledger,
    /// Connections with neighbours, as this end sees them.
    pub links: BTreeMap<NodeId, u64>,
    /// Until when a link is wanted for a request.
    pub wanted: BTreeMap<NodeId, Mono>,
    /// Own ends by their numbers, with the node at the other end and whose they are.
    pub ends: BTreeMap<u64, (PathEnd, NodeId, PathSlot)>,
    pub armed: Option<Mono>,
    /// Of the latest datagram.
    pub counter: u64,
}

pub struct Node {
    /// Names the present process, so that timers of an earlier one do nothing.
    pub life: u32,
    pub starts: u32,
    /// What its agent recorded of its starts.
    pub instance: u32,
    pub facts: Facts,
    pub plane: Option<Plane>,
    pub conduct: Conduct,
    /// The process is stopped until then.
    pub stopped: Mono,
}

impl Plane {
    pub fn new(me: NodeId, life: u32, now: Mono) -> Self {
        Self {
            core: Paths::new(me, LIMITS, now),
            peers: BTreeMap::new(),
            ledger: Ledger::default(),
            links: BTreeMap::new(),
            wanted: BTreeMap::new(),
            ends: BTreeMap::new(),
            armed: None,
            // A process that starts afresh makes new sessions.
            counter: u64::from(life) << 32,
        }
    }
}

impl Node {
    pub fn new(facts: Facts) -> Self {
        Self {
            life: 0,
            starts: 0,
            instance: 0,
            facts,
            plane: None,
            conduct: Conduct::Honest,
            stopped: Mono(0),
        }
    }

    pub fn runs(&self, now: Mono) -> bool {
        self.plane.is_some() && self.stopped <= now
    }
}

/// Leaf keys by node; they outlive the processes.
pub type LeafKeys = BTreeMap<NodeId, Leaf>;

/// Smaller than shipped, so that a flood meets them.
pub const LIMITS: PathLimits = PathLimits {
    paths: 1024,
    paths_per_source: 128,
    requests: 512,
    requests_per_neighbour: 256,
    installs: (200, 200),
    installs_per_source: (20, 60),
    verifications_per_neighbour: (100, 200),
    generations: 4096,
};

/// How long the lives of paths are here: a run has many of them.
pub const LIFETIME_S: u32 = 20;
