//! What a session is started with, and what a peer is permitted.
//!
//! Owns shapes and defaults. Has no behaviour of a session.

use std::time::Duration;

use rap_types::{ChannelClass, ClusterId, Mono, NodeId, Reason};
use rap_wire::v1::LinkLane;

/// Timers and limits of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Time from the start to state established.
    pub handshake: Duration,
    /// Silence after which the peer is probed.
    pub idle: Duration,
    /// Time without any frame after which a liveness probe counts as missed.
    pub probe_interval: Duration,
    /// Number of missed probes in a row that make the peer suspect.
    pub suspect_after: u32,
    /// Number of missed probes in a row that close the link.
    pub close_after: u32,
    /// Time in which a requested probe or echo must be answered.
    pub answer: Duration,
    /// Time in which the peer must close after the goodbye of this side.
    pub drain: Duration,
    /// Number of probes and echoes that may be unanswered at once.
    pub open_questions: usize,
    /// Time without data after which lanes B and C end.
    pub lane_idle: Duration,
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
            lane_idle: Duration::from_secs(60),
        }
    }
}

impl Timing {
    /// Sets the silence before a probe to `interval`, and the time of a probe to `interval`, at most the 2 s
    /// of the default.
    #[must_use]
    pub fn with_probe_interval(self, interval: Duration) -> Self {
        Self { idle: interval, probe_interval: interval.min(Self::default().probe_interval), ..self }
    }
}

/// Which of the up to three connections of a link this is. The hellos of both sides name the same lane.
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
    /// The lane that carries data of a class.
    pub const fn of_class(class: ChannelClass) -> Self {
        match class {
            ChannelClass::Input | ChannelClass::Control | ChannelClass::Clipboard => Self::A,
            ChannelClass::Render | ChannelClass::Telemetry => Self::B,
            ChannelClass::File | ChannelClass::Vpn => Self::C,
        }
    }

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

/// Side of one session, with the facts that only this side has at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This node dials.
    Dialer {
        /// Id of the node that must answer.
        expected: NodeId,
        /// Name of the session: 16 random bytes.
        session_id: [u8; 16],
        /// Lane of the connection.
        lane: Lane,
    },
    /// The peer dialled. Its certificate names the peer; its hello names session and lane.
    Acceptor,
}

impl Side {
    /// Direction of the connection as seen from this node.
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
    /// Id of this node.
    pub node: NodeId,
    /// Id of the cluster that this membership is in.
    pub cluster: ClusterId,
    /// Features offered; at most 32.
    pub features: Vec<String>,
    /// Newest signed cluster head that this node verified. May be empty; at most [`crate::HEAD_MAX`].
    pub newest_head: Vec<u8>,
}

/// Identity of the peer, as its certificate states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Cluster in the certificate.
    pub cluster: ClusterId,
    /// Node in the certificate.
    pub node: NodeId,
}

/// Whether a link with a peer may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Until this instant of the boot clock.
    Until(Mono),
    /// Not, for this reason.
    Denied(Reason),
}
