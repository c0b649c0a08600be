//! What a set of peers is told.
//!
//! Owns the words.

use rap_types::NodeId;

/// What the node is. It decides how many links it wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// A node that relays for nobody.
    #[default]
    Plain,
    /// A node that relays for others.
    Relay,
    /// A small device.
    Thin,
}

/// This node, as the snapshot has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// The node.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// True if relays serve it: then relays are the only peers that it wants without need.
    pub relayed: bool,
    /// How many of its home relays it keeps links with.
    pub homes: usize,
}

impl Default for Own {
    fn default() -> Self {
        Self { node: NodeId::ZERO, role: Role::Plain, relayed: false, homes: 0 }
    }
}

/// Why a peer is wanted whatever it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Required {
    /// Policy keeps its links for ever.
    Survives,
    /// A break-glass grant admits it.
    Permitted,
}

/// A peer, as the snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The peer.
    pub node: NodeId,
    /// It has an endpoint that can be dialled.
    pub dialable: bool,
    /// It is a relay that serves this node.
    pub relay: bool,
    /// It leaves: not wanted while another relay can be.
    pub draining: bool,
    /// Place among the home relays of this node, from 0.
    pub home: Option<usize>,
    /// Why it is wanted whatever it costs.
    pub required: Option<Required>,
    /// Failure domain; empty if nobody said.
    pub domain: String,
    /// Place by the detour gain that the control plane computed, from 1; 0 without one.
    pub rank: u32,
}

/// What probes of a link say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    /// Round trip, microseconds; 0 is none.
    pub rtt_us: u32,
    /// Probes without an answer, per million.
    pub loss_ppm: u32,
}

impl Measured {
    /// Cost of the link in microseconds, lower is better; `None` without a round trip. One per cent of loss costs 30 ms,
    /// as in class control.
    pub(crate) fn cost(self) -> Option<u64> {
        let lost = u64::from(self.loss_ppm) * 3;
        (self.rtt_us > 0).then(|| u64::from(self.rtt_us) / 2 + lost)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// There is somebody who dials, or nobody. A new one has no links.
    Plane(bool),
    /// The snapshot has this node and these peers, and no others.
    Known(Own, Vec<Known>),
    /// The link with a peer stands. Said again, it changes nothing.
    Up(NodeId),
    /// The link with a peer does not stand: an attempt failed, or a link ended.
    Down(NodeId),
    /// The link was measured, now or by a start before.
    Measured(NodeId, Measured),
    /// Traffic passed through a relay, or to a peer.
    Used(NodeId),
    /// Whether any way leads to a peer: its own endpoint, or a path.
    Reach(NodeId, bool),
}
