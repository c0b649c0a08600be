//! What goes into a session and what comes out of it.
//!
//! Owns the inputs and outputs of a session. Has no behaviour.

use std::time::Duration;

use bytes::Bytes;
use rap_types::{ChannelClass, Mono, Reason};

use crate::facts::{Lane, PeerIdentity, Permit, Timing};
use crate::frame::Frame;
use crate::hello::PeerHello;
use crate::state::SessionState;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The TCP connection was made. The TLS handshake begins.
    Opened,
    /// The TLS handshake proved the identity of the peer.
    Authenticated {
        /// Identity in the certificate.
        peer: PeerIdentity,
        /// What the peer is permitted.
        permit: Permit,
    },
    /// A frame arrived over the authenticated connection.
    Received(Frame),
    /// The permit of the peer may have changed.
    PermitChanged(Permit),
    /// New timers. A handshake, a drain and a probe under way keep their deadlines.
    TimingChanged(Timing),
    /// A round trip was asked for.
    ProbeAsked {
        /// Returned with the answer, to match it.
        token: u64,
    },
    /// An echo was asked for.
    EchoAsked {
        /// Returned with the answer, to match it.
        token: u64,
        /// Class of the question and of its return.
        class: ChannelClass,
        /// At most [`crate::ECHO_MAX`] bytes.
        payload: Bytes,
    },
    /// A path message, labelled data or a lane request was handed over for this peer.
    SendAsked(Frame),
    /// What the shell noticed beside this connection's frames.
    Noticed {
        /// When data last passed on any lane of the link.
        carried: Option<Mono>,
        /// When the kernel of the peer last acknowledged a segment of this connection.
        acked: Option<Mono>,
    },
    /// This side wants to end the session with a goodbye.
    DrainAsked(Reason),
    /// The transport failed, ended, or carried bytes that are not frames.
    Broken(Reason),
    /// The instant of `poll_timeout` came.
    TimerFired,
}

/// An [`Input`] without its data, for the transition table and for rejections.
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
    SendAsked,
    Noticed,
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
            Self::SendAsked(_) => InputKind::SendAsked,
            Self::Noticed { .. } => InputKind::Noticed,
            Self::DrainAsked(_) => InputKind::DrainAsked,
            Self::Broken(_) => InputKind::Broken,
            Self::TimerFired => InputKind::TimerFired,
        }
    }
}

/// Result of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Round trip, measured on the clock of this node.
    RoundTrip(Duration),
    /// No answer in time, a wrong answer, a full queue, or the link closed first.
    Failed(Reason),
}

/// What the shell must do or report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write this frame.
    Send(Frame),
    /// Both hellos were exchanged. This is that of the peer.
    Established(PeerHello),
    /// A path message or labelled data arrived.
    Received(Frame),
    /// The peer wants this lane opened, or with lane A the link made anew. This side dialled lane A.
    LaneAsked(Lane),
    /// The peer missed probes.
    Suspected,
    /// A suspect peer was heard again.
    Recovered,
    /// Answer to [`Input::ProbeAsked`].
    ProbeAnswered {
        /// Token of the question.
        token: u64,
        /// Result.
        answer: Answer,
    },
    /// Answer to [`Input::EchoAsked`].
    EchoAnswered {
        /// Token of the question.
        token: u64,
        /// Result.
        answer: Answer,
    },
    /// Write the frames that still wait, then close the connection.
    Closed(Reason),
}

/// An input that does not fit the state. The state is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("input {input:?} does not fit state {state}")]
pub struct Reject {
    /// State of the session.
    pub state: SessionState,
    /// The input.
    pub input: InputKind,
}

impl Reject {
    /// Stable reason code.
    pub const fn reason(self) -> Reason {
        Reason::LinkState
    }
}
