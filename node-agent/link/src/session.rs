//! The life of one connection of a link: dialing, handshaking, authorising, established, suspect,
//! draining, closed.
//!
//! Owns the transitions. Refuses to own bytes, sockets and clocks: inputs say what happened and when,
//! outputs say what to do.
//!
//! # Why this is sound
//! - *Only a permitted peer is linked.* Established follows Authorising alone, and Authorising follows
//!   one check: the peer proved an identity of this cluster, is not this node, is the node that was
//!   dialled, and has a permit whose end has not come.
//! - *A permit that is taken back ends the session in every state.* `PermitChanged(Denied)` closes every
//!   state but Closed. The end of a permit closes by timer, and `due` is never later than that end.
//! - *Every wait ends.* Each state but Closed has a `due`. The deadline of the opening states and that of
//!   Draining is set once and moved by no input. A live session without a sign of life ends after the idle
//!   time and `close_after` probe intervals of timers that fired in time, and while data passes as `watch` says.
//! - *Closed is final and told once.* `close` alone makes Closed, and pushes `Output::Closed`. Closed
//!   refuses every input.
//! - *A refused input changes nothing.* `refuse` returns the state that it was given.

use rap_types::{Mono, NodeId, Now, Reason};

use crate::carried::Carried;
use crate::facts::{Local, PeerIdentity, Permit, Side, Timing};
use crate::frame::{Frame, FrameKind};
use crate::hello;
use crate::live::{Finding, Live};
use crate::message;
use crate::state::SessionState;
use crate::terms::{Input, Output, Reject};

/// One session. Each state holds only what it needs. Every input consumes the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Session {
    /// The TCP connection is being made.
    Dialing(Box<Opening>),
    /// The TLS handshake runs.
    Handshaking(Box<Opening>),
    /// The peer proved its identity. Hellos are being exchanged.
    Authorising(Box<Opening>, Permitted),
    /// Both hellos were exchanged.
    Established(Box<Live>),
    /// Established, but the peer missed probes.
    Suspect(Box<Live>),
    /// This side said goodbye and waits for the peer to close.
    Draining(Leaving),
    /// The session is over, for this reason.
    Closed(Reason),
}

/// Data of a session that is not established yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    local: Local,
    side: Side,
    timing: Timing,
    deadline: Mono,
}

/// A peer that is permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permitted {
    peer: NodeId,
    until: Mono,
}

/// Data of a session that drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaving {
    reason: Reason,
    deadline: Mono,
}

type Step = Result<Session, (Session, Reject)>;

impl Session {
    /// A session that this node dials (state dialing) or that a peer dialled (state handshaking).
    pub fn new(local: Local, side: Side, timing: Timing, now: Now) -> Self {
        let deadline = now.mono.plus(timing.handshake);
        let opening = Box::new(Opening { local, side, timing, deadline });
        match side {
            Side::Dialer { .. } => Self::Dialing(opening),
            Side::Acceptor => Self::Handshaking(opening),
        }
    }

    /// Which state this is.
    pub const fn state(&self) -> SessionState {
        match self {
            Self::Dialing(_) => SessionState::Dialing,
            Self::Handshaking(_) => SessionState::Handshaking,
            Self::Authorising(..) => SessionState::Authorising,
            Self::Established(_) => SessionState::Established,
            Self::Suspect(_) => SessionState::Suspect,
            Self::Draining(_) => SessionState::Draining,
            Self::Closed(_) => SessionState::Closed,
        }
    }

    /// Why the session is closed or draining. Absent in other states.
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Draining(leaving) => Some(leaving.reason),
            Self::Closed(reason) => Some(*reason),
            Self::Dialing(_)
            | Self::Handshaking(_)
            | Self::Authorising(..)
            | Self::Established(_)
            | Self::Suspect(_) => None,
        }
    }

    /// Data of states established and suspect. Absent in other states.
    pub const fn live(&self) -> Option<&Live> {
        match self {
            Self::Established(live) | Self::Suspect(live) => Some(live),
            Self::Dialing(_)
            | Self::Handshaking(_)
            | Self::Authorising(..)
            | Self::Draining(_)
            | Self::Closed(_) => None,
        }
    }

    /// When [`Input::TimerFired`] is due; `None` once closed.
    pub fn due(&self) -> Option<Mono> {
        match self {
            Self::Dialing(opening) | Self::Handshaking(opening) => Some(opening.deadline),
            Self::Authorising(opening, permitted) => Some(opening.deadline.min(permitted.until)),
            Self::Established(live) | Self::Suspect(live) => Some(live.due()),
            Self::Draining(leaving) => Some(leaving.deadline),
            Self::Closed(_) => None,
        }
    }

    /// Takes one input.
    ///
    /// # Errors
    /// The input does not fit the state. The same state is returned.
    pub fn handle(self, input: Input, now: Now, out: &mut Vec<Output>) -> Step {
        match self {
            Self::Dialing(opening) => opening.dialing(input, now, out),
            Self::Handshaking(opening) => opening.handshaking(input, now, out),
            Self::Authorising(opening, permitted) => opening.authorising(permitted, input, now, out),
            Self::Established(live) => carry(live, false, input, now, out),
            Self::Suspect(live) => carry(live, true, input, now, out),
            Self::Draining(leaving) => leaving.handle(input, now, out),
            Self::Closed(_) => refuse(self, &input),
        }
    }
}

impl Opening {
    fn with_timing(self: Box<Self>, timing: Timing) -> Box<Self> {
        Box::new(Self { timing, ..*self })
    }

    fn dialing(self: Box<Self>, input: Input, now: Now, out: &mut Vec<Output>) -> Step {
        match input {
            Input::Opened => Ok(Session::Handshaking(self)),
            Input::PermitChanged(Permit::Until(_)) | Input::Noticed { .. } => Ok(Session::Dialing(self)),
            Input::TimingChanged(timing) => Ok(Session::Dialing(self.with_timing(timing))),
            Input::PermitChanged(Permit::Denied(reason))
            | Input::DrainAsked(reason)
            | Input::Broken(reason) => Ok(close(reason, out)),
            Input::TimerFired if now.mono >= self.deadline => Ok(close(Reason::LinkUnreachable, out)),
            Input::TimerFired => Ok(Session::Dialing(self)),
            Input::Authenticated { .. }
            | Input::Received(_)
            | Input::ProbeAsked { .. }
            | Input::EchoAsked { .. }
            | Input::SendAsked(_) => refuse(Session::Dialing(self), &input),
        }
    }

    fn handshaking(self: Box<Self>, input: Input, now: Now, out: &mut Vec<Output>) -> Step {
        match input {
            Input::Authenticated { peer, permit } => Ok(self.authenticated(peer, permit, now, out)),
            Input::PermitChanged(Permit::Until(_)) | Input::Noticed { .. } => Ok(Session::Handshaking(self)),
            Input::TimingChanged(timing) => Ok(Session::Handshaking(self.with_timing(timing))),
            Input::PermitChanged(Permit::Denied(reason))
            | Input::DrainAsked(reason)
            | Input::Broken(reason) => Ok(close(reason, out)),
            Input::TimerFired if now.mono >= self.deadline => Ok(close(Reason::LinkHandshakeTimeout, out)),
            Input::TimerFired => Ok(Session::Handshaking(self)),
            Input::Opened
            | Input::Received(_)
            | Input::ProbeAsked { .. }
            | Input::EchoAsked { .. }
            | Input::SendAsked(_) => refuse(Session::Handshaking(self), &input),
        }
    }

    fn authenticated(
        self: Box<Self>,
        peer: PeerIdentity,
        permit: Permit,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Session {
        let wrong = match self.side {
            Side::Dialer { expected, .. } => expected != peer.node,
            Side::Acceptor => false,
        };
        if wrong || peer.cluster != self.local.cluster || peer.node == self.local.node {
            return farewell(Reason::CertificateIdentity, out);
        }
        match permit {
            Permit::Denied(reason) => farewell(reason, out),
            Permit::Until(until) if now.mono >= until => farewell(Reason::LinkPermitExpired, out),
            Permit::Until(until) => {
                if let Side::Dialer { session_id, lane, .. } = self.side {
                    out.push(Output::Send(message::hello(hello::encode(&self.local, lane, session_id))));
                }
                Session::Authorising(self, Permitted { peer: peer.node, until })
            }
        }
    }

    fn authorising(
        self: Box<Self>,
        permitted: Permitted,
        input: Input,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Step {
        match input {
            Input::Received(frame) => Ok(self.first_frame(permitted, &frame, now, out)),
            Input::PermitChanged(Permit::Until(until)) => {
                Ok(Session::Authorising(self, Permitted { until, ..permitted }))
            }
            Input::TimingChanged(timing) => Ok(Session::Authorising(self.with_timing(timing), permitted)),
            Input::PermitChanged(Permit::Denied(reason)) | Input::Broken(reason) => Ok(close(reason, out)),
            Input::DrainAsked(reason) => Ok(farewell(reason, out)),
            Input::TimerFired if now.mono >= permitted.until => Ok(farewell(Reason::LinkPermitExpired, out)),
            Input::TimerFired if now.mono >= self.deadline => Ok(farewell(Reason::LinkHandshakeTimeout, out)),
            Input::TimerFired | Input::Noticed { .. } => Ok(Session::Authorising(self, permitted)),
            Input::Opened
            | Input::Authenticated { .. }
            | Input::ProbeAsked { .. }
            | Input::EchoAsked { .. }
            | Input::SendAsked(_) => refuse(Session::Authorising(self, permitted), &input),
        }
    }

    fn first_frame(
        self: Box<Self>,
        permitted: Permitted,
        frame: &Frame,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Session {
        match frame.kind {
            FrameKind::Hello => {}
            FrameKind::Bye => return close(message::read_bye(&frame.payload).unwrap_or_else(|e| e), out),
            FrameKind::Probe
            | FrameKind::ProbeAck
            | FrameKind::Echo
            | FrameKind::EchoReply
            | FrameKind::Data
            | FrameKind::PathRequest
            | FrameKind::PathAnswer
            | FrameKind::PathWithdraw
            | FrameKind::PathFault
            | FrameKind::LaneRequest
            | FrameKind::RelayRow => return farewell(Reason::LinkState, out),
        }
        let peer_hello = match hello::read(&frame.payload, &self.side, &self.local) {
            Ok(peer_hello) => peer_hello,
            Err(reason) => return farewell(reason, out),
        };
        if self.side == Side::Acceptor {
            let answer = hello::encode(&self.local, peer_hello.lane, peer_hello.session_id);
            out.push(Output::Send(message::hello(answer)));
        }
        let carried = Carried::new(self.side.direction(), peer_hello.lane, peer_hello.agreed);
        out.push(Output::Established(peer_hello));
        let live = Live::new(self.timing, permitted.peer, permitted.until, carried, now.mono);
        Session::Established(Box::new(live))
    }
}

/// States established (`suspect` false) and suspect (`suspect` true).
fn carry(mut live: Box<Live>, suspect: bool, input: Input, now: Now, out: &mut Vec<Output>) -> Step {
    let finding = match input {
        Input::Received(frame) => live.receive(&frame, now.mono, out),
        Input::TimerFired => live.timer(now.mono, out),
        Input::ProbeAsked { token } => {
            live.ask_probe(token, now.mono, out);
            Finding::Steady
        }
        Input::EchoAsked { token, class, payload } => {
            live.ask_echo(token, class, payload, now.mono, out);
            Finding::Steady
        }
        Input::SendAsked(frame) if live.sends(&frame, now.mono) => {
            out.push(Output::Send(frame));
            Finding::Steady
        }
        Input::SendAsked(_) => return refuse(stay(live, suspect), &input),
        Input::PermitChanged(Permit::Until(until)) => {
            live.extend_permit(until);
            Finding::Steady
        }
        Input::TimingChanged(timing) => {
            live.set_timing(timing);
            Finding::Steady
        }
        Input::Noticed { carried, acked } => {
            live.notice(carried, acked);
            Finding::Steady
        }
        // Without a goodbye: a peer that lost its permission is told nothing.
        Input::PermitChanged(Permit::Denied(reason)) | Input::Broken(reason) => Finding::Over(reason, true),
        Input::DrainAsked(reason) => return Ok(drain(&mut live, reason, now, out)),
        Input::Opened | Input::Authenticated { .. } => return refuse(stay(live, suspect), &input),
    };
    Ok(match (finding, suspect) {
        (Finding::Steady, _) => stay(live, suspect),
        (Finding::Heard, false) => Session::Established(live),
        (Finding::Heard, true) => {
            out.push(Output::Recovered);
            Session::Established(live)
        }
        (Finding::Doubtful, true) => Session::Suspect(live),
        (Finding::Doubtful, false) => {
            out.push(Output::Suspected);
            Session::Suspect(live)
        }
        (Finding::Over(reason, told), _) => {
            live.abandon(reason, out);
            if told { close(reason, out) } else { farewell(reason, out) }
        }
    })
}

const fn stay(live: Box<Live>, suspect: bool) -> Session {
    if suspect { Session::Suspect(live) } else { Session::Established(live) }
}

fn drain(live: &mut Live, reason: Reason, now: Now, out: &mut Vec<Output>) -> Session {
    live.abandon(reason, out);
    out.push(Output::Send(message::bye(reason)));
    Session::Draining(Leaving { reason, deadline: now.mono.plus(live.timing().drain) })
}

impl Leaving {
    fn handle(self, input: Input, now: Now, out: &mut Vec<Output>) -> Step {
        match input {
            Input::Received(frame) if frame.kind == FrameKind::Bye => Ok(close(self.reason, out)),
            Input::TimerFired if now.mono >= self.deadline => Ok(close(self.reason, out)),
            Input::Broken(_) => Ok(close(self.reason, out)),
            Input::PermitChanged(Permit::Denied(reason)) => Ok(close(reason, out)),
            // Frames that were under way when this side said goodbye.
            Input::Received(_)
            | Input::TimerFired
            | Input::PermitChanged(Permit::Until(_))
            | Input::TimingChanged(_)
            | Input::Noticed { .. }
            | Input::DrainAsked(_) => Ok(Session::Draining(self)),
            Input::Opened
            | Input::Authenticated { .. }
            | Input::ProbeAsked { .. }
            | Input::EchoAsked { .. }
            | Input::SendAsked(_) => refuse(Session::Draining(self), &input),
        }
    }
}

fn close(reason: Reason, out: &mut Vec<Output>) -> Session {
    out.push(Output::Closed(reason));
    Session::Closed(reason)
}

/// Sends a goodbye and closes.
fn farewell(reason: Reason, out: &mut Vec<Output>) -> Session {
    out.push(Output::Send(message::bye(reason)));
    close(reason, out)
}

fn refuse(session: Session, input: &Input) -> Step {
    let reject = Reject { state: session.state(), input: input.kind() };
    Err((session, reject))
}
