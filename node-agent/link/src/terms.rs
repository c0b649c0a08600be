//! What goes into a session and what comes out of it.
//!
//! Owns the vocabulary between session and shell. Holds no behaviour.

use std::time::Duration;

use bytes::Bytes;
use rap_types::{ChannelClass, Reason};

use crate::facts::{PeerIdentity, Permit, Timing};
use crate::frame::Frame;
use crate::hello::PeerHello;
use crate::state::SessionState;

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
    /// These timers count from now on. A handshake, a drain and a probe under way keep their deadlines.
    TimingChanged(Timing),
    /// A round trip was asked for.
    ProbeAsked {
        /// Returned with the answer.
        token: u64,
    },
    /// An echo was asked for.
    EchoAsked {
        /// Returned with the answer.
        token: u64,
        /// Class of the question and of its return.
        class: ChannelClass,
        /// At most [`crate::ECHO_MAX`] bytes.
        payload: Bytes,
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
    TimingChanged,
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
            Self::TimingChanged(_) => InputKind::TimingChanged,
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
