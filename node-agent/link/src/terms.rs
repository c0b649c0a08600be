//! What goes into a session, what comes out, and the facts it is started with.
//!
//! Owns the vocabulary between session and shell. Holds no behaviour.

use std::time::Duration;

use rap_types::{ClusterId, Mono, NodeId, Reason};

use crate::frame::Frame;
use crate::hello::PeerHello;
use crate::session::SessionState;

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
    /// This node dials: whom it expects, and the random name it gives the session.
    Dialer {
        /// The only node that may answer.
        expected: NodeId,
        /// 16 random bytes.
        session_id: [u8; 16],
    },
    /// The peer dialled; its certificate says who it is and its hello names the session.
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

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The TCP connection stands; the TLS handshake begins.
    Opened,
    /// The TLS handshake proved who the peer is.
    Authenticated {
        /// From the leaf.
        peer: PeerIdentity,
        /// From the peer table.
        permit: Permit,
    },
    /// A frame arrived over the authenticated connection.
    Received(Frame),
    /// The peer table changed.
    PermitChanged(Permit),
    /// A round trip was asked for.
    ProbeAsked {
        /// Returned with the answer.
        token: u64,
    },
    /// An echo was asked for.
    EchoAsked {
        /// Returned with the answer.
        token: u64,
        /// At most [`crate::ECHO_MAX`] bytes.
        payload: Vec<u8>,
    },
    /// This side wants to end the session in order.
    DrainAsked(Reason),
    /// The transport failed, ended, or carried bytes that are no frames.
    Broken(Reason),
    /// The instant of `poll_timeout` came.
    TimerFired,
}

/// An [`Input`] without its data; for the transition table and for rejections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum InputKind {
    Opened,
    Authenticated,
    Received,
    PermitChanged,
    ProbeAsked,
    EchoAsked,
    DrainAsked,
    Broken,
    TimerFired,
}

impl Input {
    /// Which input this is.
    pub const fn kind(&self) -> InputKind {
        match self {
            Self::Opened => InputKind::Opened,
            Self::Authenticated { .. } => InputKind::Authenticated,
            Self::Received(_) => InputKind::Received,
            Self::PermitChanged(_) => InputKind::PermitChanged,
            Self::ProbeAsked { .. } => InputKind::ProbeAsked,
            Self::EchoAsked { .. } => InputKind::EchoAsked,
            Self::DrainAsked(_) => InputKind::DrainAsked,
            Self::Broken(_) => InputKind::Broken,
            Self::TimerFired => InputKind::TimerFired,
        }
    }
}

/// What a question came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Round trip, measured on this node's clock alone.
    RoundTrip(Duration),
    /// No answer in time, a wrong one, or the link closed first.
    Failed(Reason),
}

/// What the shell shall do or tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write this frame.
    Send(Frame),
    /// Both hellos are exchanged.
    Established(PeerHello),
    /// The peer missed probes.
    Suspected,
    /// A suspect peer was heard again.
    Recovered,
    /// Answer to [`Input::ProbeAsked`].
    ProbeAnswered {
        /// Of the question.
        token: u64,
        /// What came of it.
        answer: Answer,
    },
    /// Answer to [`Input::EchoAsked`].
    EchoAnswered {
        /// Of the question.
        token: u64,
        /// What came of it.
        answer: Answer,
    },
    /// Flush for a short while, then close the connection.
    Closed(Reason),
}

/// An input that does not fit the state; the state is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("input {input:?} does not fit state {state}")]
pub struct Reject {
    /// State the session is in.
    pub state: SessionState,
    /// What it was given.
    pub input: InputKind,
}

impl Reject {
    /// The stable code.
    pub const fn reason(self) -> Reason {
        Reason::LinkState
    }
}
