//! What is planned to happen in the fabric, and what travels.

use bytes::Bytes;
use rap_link::FrameKind;
use rap_types::{Mono, NodeId};

/// What a link carries.
#[derive(Debug, Clone)]
pub enum Carried {
    Message(FrameKind, Vec<u8>),
    Data(Data),
}

/// A labelled frame, and what its maker and the nodes on its way know of it.
#[derive(Debug, Clone)]
pub struct Data {
    pub label: u64,
    pub hop_budget: u8,
    pub payload: Bytes,
    pub maker: NodeId,
    /// Nodes that it passed.
    pub passed: Vec<NodeId>,
    /// A dishonest node had it in its hands.
    pub touched: bool,
    /// Sent by somebody to whom the label does not belong.
    pub foreign: bool,
}

/// A request that waits for a link.
#[derive(Debug)]
pub struct Waiting {
    pub at: NodeId,
    pub to: NodeId,
    pub request: u64,
    pub payload: Vec<u8>,
    pub until: Mono,
}

pub enum Happening {
    Frame {
        from: NodeId,
        to: NodeId,
        connection: u64,
        carried: Carried,
    },
    /// The timer of a core, in one life of its process.
    Timer(NodeId, u32),
    /// The timer of the ways to a peer.
    WayTimer(NodeId, NodeId, u32),
    /// A node looks which links it wants.
    Links(NodeId, u32),
    /// A connection from the first to the second stands.
    LinkUp(NodeId, NodeId),
    /// An end may find out that its connection with the other one is dead.
    LinkDead(NodeId, NodeId, u64),
    NotPassed {
        at: NodeId,
        to: NodeId,
        request: u64,
        life: u32,
    },
    /// One of a pair has something to say, in one storm and the quiet after it.
    Talk(NodeId, NodeId, u32),
    Fault,
    /// A fault ends.
    End(u64),
    /// A line is cut for a moment, so many times more.
    Flap(NodeId, NodeId, u32),
}

impl Happening {
    /// What it is and whom it is about, for a person.
    pub fn name(&self) -> (&'static str, NodeId, NodeId) {
        match self {
            Self::Frame { from, to, carried: Carried::Message(kind, _), .. } => match kind {
                FrameKind::PathRequest => ("request", *from, *to),
                FrameKind::PathAnswer => ("answer", *from, *to),
                FrameKind::PathWithdraw => ("withdrawal", *from, *to),
                FrameKind::PathFault => ("fault", *from, *to),
                _ => ("message", *from, *to),
            },
            Self::Frame { from, to, .. } => ("labelled frame", *from, *to),
            Self::Timer(me, _) => ("timer of paths", *me, *me),
            Self::WayTimer(me, to, _) => ("timer of ways", *me, *to),
            Self::Links(me, _) => ("look at links", *me, *me),
            Self::LinkUp(me, peer) => ("link up", *me, *peer),
            Self::LinkDead(at, peer, _) => ("link dead", *at, *peer),
            Self::NotPassed { at, to, .. } => ("request not passed", *at, *to),
            Self::Talk(me, to, _) => ("traffic", *me, *to),
            Self::Fault | Self::End(_) => ("fault of the network", NodeId::ZERO, NodeId::ZERO),
            Self::Flap(one, other, _) => ("flapping line", *one, *other),
        }
    }
}

/// A sum over everything that happened: two runs with the same one were the same.
#[derive(Debug, Clone, Copy)]
pub struct Trail(u64);

impl Default for Trail {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Trail {
    pub fn add(&mut self, words: &[u64]) {
        for byte in words.iter().flat_map(|word| word.to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub const fn sum(self) -> u64 {
        self.0
    }
}
