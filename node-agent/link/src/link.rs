//! One connection of a link: decoder, session and counters together, driven by a shell.
//!
//! Owns the order of bytes in and bytes out. Refuses to own the transport: the shell moves what
//! `take_transmit` returns and calls back with what arrives.

use std::collections::VecDeque;
use std::time::Duration;

use rap_types::{Mono, NodeId, Now, Reason};

use crate::counters::Counters;
use crate::decoder::Decoder;
use crate::facts::{Local, Side, Timing};
use crate::frame::FrameKind;
use crate::live::Live;
use crate::session::Session;
use crate::state::SessionState;
use crate::terms::{Input, Output, Reject};

/// A session with its bytes.
#[derive(Debug)]
pub struct Link {
    session: Session,
    since: Mono,
    decoder: Decoder,
    counters: Counters,
    transmit: Vec<u8>,
    outputs: VecDeque<Output>,
}

impl Link {
    /// A link that this node dials or that a peer dialled.
    pub fn new(local: Local, side: Side, timing: Timing, now: Now) -> Self {
        Self {
            session: Session::new(local, side, timing, now),
            since: now.mono,
            decoder: Decoder::new(),
            counters: Counters::default(),
            transmit: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes bytes that arrived. The shell bounds how many at a time and drains the outputs between.
    pub fn receive(&mut self, mut bytes: &[u8], now: Now) {
        while self.state() != SessionState::Closed {
            match self.decoder.decode(&mut bytes) {
                Ok(Some(frame)) => {
                    self.counters.received(frame.wire_len());
                    // A refusal is counted; the state did not change.
                    let _refused = self.handle(Input::Received(frame), now);
                }
                Ok(None) => return,
                Err(error) => {
                    let _refused = self.refuse_bytes(error.reason(), now);
                    return;
                }
            }
        }
    }

    /// Takes one input other than bytes.
    pub fn handle(&mut self, input: Input, now: Now) -> Result<(), Reject> {
        let mut out = Vec::new();
        let before = self.session.state();
        let message = matches!(&input, Input::Received(frame) if frame.kind != FrameKind::Bye);
        let session = std::mem::replace(&mut self.session, Session::Closed(Reason::LinkState));
        let (session, outcome) = match session.handle(input, now, &mut out) {
            Ok(session) => (session, Ok(())),
            Err((session, reject)) => (session, Err(reject)),
        };
        self.session = session;
        if before != self.session.state() {
            self.since = now.mono;
        }
        match (&outcome, self.session.reason()) {
            (Err(reject), _) => self.counters.rejected(reject.reason()),
            // Only a frame that breaks a rule closes; draining ends on a goodbye or a timer.
            (Ok(()), Some(reason)) if message && before != SessionState::Draining => {
                self.counters.rejected(reason);
            }
            (Ok(()), _) => {}
        }
        self.emit(out);
        outcome
    }

    /// Tells the session that time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.poll_timeout().is_some_and(|due| now.mono >= due) {
            let _refused = self.handle(Input::TimerFired, now);
        }
    }

    /// When to call [`Self::handle_timeout`]; `None` once closed.
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.session.due()
    }

    /// The next thing to tell or do; never [`Output::Send`], whose bytes are in [`Self::take_transmit`].
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Moves the bytes to write to the end of `buffer`.
    pub fn take_transmit(&mut self, buffer: &mut Vec<u8>) {
        buffer.append(&mut self.transmit);
    }

    /// State of the session.
    pub const fn state(&self) -> SessionState {
        self.session.state()
    }

    /// When the state was entered.
    pub const fn since(&self) -> Mono {
        self.since
    }

    /// Why the session is closed or leaving.
    pub const fn reason(&self) -> Option<Reason> {
        self.session.reason()
    }

    /// The peer, in states established and suspect.
    pub fn peer(&self) -> Option<NodeId> {
        self.session.live().map(Live::peer)
    }

    /// Last measured round trip.
    pub fn rtt(&self) -> Option<Duration> {
        self.session.live().and_then(Live::rtt)
    }

    /// Totals since the connection began.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Bytes that are no frames end the session in order: the peer is told why.
    fn refuse_bytes(&mut self, reason: Reason, now: Now) -> Result<(), Reject> {
        self.counters.rejected(reason);
        let said = self.handle(Input::DrainAsked(reason), now);
        self.handle(Input::Broken(reason), now).and(said)
    }

    fn emit(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Send(frame) => match frame.encode(&mut self.transmit) {
                    Ok(()) => self.counters.sent(frame.wire_len()),
                    Err(error) => self.counters.rejected(error.reason()),
                },
                Output::Established(_)
                | Output::Suspected
                | Output::Recovered
                | Output::ProbeAnswered { .. }
                | Output::EchoAnswered { .. }
                | Output::Closed(_) => self.outputs.push_back(output),
            }
        }
    }
}
