//! The facts that a session is started with, and what the peer table permits.
//!
//! Owns their shapes and defaults. Holds no behaviour of a session.

use std::time::Duration;

use rap_types::{ClusterId, Mono, NodeId, Reason};
use rap_wire::v1::LinkLane;

/// Timers of a session. All are configurable; the defaults are those of an idle active link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// From start to established.
    pub handshake: Duration,
    /// Silence after which the peer is probed.
    pub idle: Duration,
    /// Wait for any frame after a liveness probe before it counts as missed.
    pub probe_interval: Duration,
    /// Missed probes in a row after which the peer is suspect.
    pub suspect_after: u32,
    /// Missed probes in a row after which the link is closed.
    pub close_after: u32,
    /// Wait for the answer to a requested probe or echo.
    pub answer: Duration,
    /// Wait for the peer to close after our goodbye.
    pub drain: Duration,
    /// Questions that may be open at once.
    pub open_questions: usize,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(5),
            probe_interval: Duration::from_secs(2),
            suspect_after: 3,
            close_after: 6,
            answer: Duration::from_secs(5),
            drain: Duration::from_secs(2),
            open_questions: 64,
        }
    }
}

impl Timing {
    /// These timers with a probe after each silence of `interval`; a probe waits as long for an answer, but
    /// at most the 2 s of the default.
    #[must_use]
    pub fn with_probe_interval(self, interval: Duration) -> Self {
        Self { idle: interval, probe_interval: interval.min(Self::default().probe_interval), ..self }
    }
}

/// Which of the up to three connections of a link this is. Both sides say the same in their hellos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Input, control, clipboard.
    A,
    /// Render, telemetry.
    B,
    /// File, vpn.
    C,
}

impl Lane {
    /// Number on the wire.
    pub const fn code(self) -> i32 {
        self.wire() as i32
    }

    pub(crate) const fn of_wire(lane: LinkLane) -> Option<Self> {
        match lane {
            LinkLane::A => Some(Self::A),
            LinkLane::B => Some(Self::B),
            LinkLane::C => Some(Self::C),
            LinkLane::Unspecified => None,
        }
    }

    const fn wire(self) -> LinkLane {
        match self {
            Self::A => LinkLane::A,
            Self::B => LinkLane::B,
            Self::C => LinkLane::C,
        }
    }
}

/// Which side opened the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// This node dialled.
    Outbound,
    /// The peer dialled.
    Inbound,
}

/// Side of one session, with what only that side knows at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This node dials: whom it expects, the random name it gives the session, and the lane.
    Dialer {
        /// The only node that may answer.
        expected: NodeId,
        /// 16 random bytes.
        session_id: [u8; 16],
        /// The lane that the connection shall be.
        lane: Lane,
    },
    /// The peer dialled; its certificate says who it is and its hello names session and lane.
    Acceptor,
}

impl Side {
    /// The direction of the connection as seen from this node.
    pub const fn direction(self) -> Direction {
        match self {
            Self::Dialer { .. } => Direction::Outbound,
            Self::Acceptor => Direction::Inbound,
        }
    }
}

/// What this node says about itself in a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// This node.
    pub node: NodeId,
    /// The cluster of this membership.
    pub cluster: ClusterId,
    /// Features offered.
    pub features: Vec<String>,
    /// Newest signed cluster head verified here; may be empty.
    pub newest_head: Vec<u8>,
}

/// Who the peer is, from its leaf certificate and from nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Cluster named in the leaf.
    pub cluster: ClusterId,
    /// Node named in the leaf.
    pub node: NodeId,
}

/// What the peer table says about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// The link may live until this instant (BOOTTIME).
    Until(Mono),
    /// The link may not live.
    Denied(Reason),
}
