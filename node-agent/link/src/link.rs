//! One connection of a link: decoder, session, scheduler and counters.
//!
//! Owns how these work together. Refuses to own the transport: the shell writes the frames of
//! `poll_transmit` and passes received bytes to `receive`.

use std::collections::VecDeque;
use std::time::Duration;

use rap_types::{Mono, NodeId, Now, Reason};

use crate::counters::Counters;
use crate::decoder::Decoder;
use crate::facts::{Local, Permit, Side, Timing};
use crate::frame::{Frame, FrameKind};
use crate::live::Live;
use crate::message::ECHO_WIRE_MAX;
use crate::samples::Measured;
use crate::scheduler::{Full, QueueId, Scheduler};
use crate::session::Session;
use crate::state::SessionState;
use crate::terms::{Answer, Input, Output, Reject};

/// One connection of a link.
#[derive(Debug, Clone)]
pub struct Link {
    session: Session,
    since: Mono,
    decoder: Decoder,
    counters: Counters,
    scheduler: Scheduler,
    said_goodbye: bool,
    outputs: VecDeque<Output>,
}

impl Link {
    /// A connection that this node dials or that a peer dialled.
    pub fn new(local: Local, side: Side, timing: Timing, now: Now) -> Self {
        Self {
            session: Session::new(local, side, timing, now),
            since: now.mono,
            decoder: Decoder::new(),
            counters: Counters::default(),
            scheduler: Scheduler::new(),
            said_goodbye: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes received bytes. The caller bounds their number and drains the outputs after each call.
    pub fn receive(&mut self, mut bytes: &[u8], now: Now) {
        while self.state() != SessionState::Closed {
            match self.decoder.decode(&mut bytes) {
                Ok(Some(frame)) => {
                    self.counters.received(frame.wire_len());
                    // A refused input is counted and changes nothing.
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
    ///
    /// # Errors
    /// The input does not fit the state. Nothing changed.
    pub fn handle(&mut self, input: Input, now: Now) -> Result<(), Reject> {
        if let Some(answer) = self.answer_without_room(&input) {
            self.outputs.push_back(answer);
            return Ok(());
        }
        let mut out = Vec::new();
        let before = self.session.state();
        let denied = matches!(&input, Input::PermitChanged(Permit::Denied(_)));
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
            // A frame other than a goodbye closes the session only if it breaks a rule.
            (Ok(()), Some(reason)) if message && before != SessionState::Draining => {
                self.counters.rejected(reason);
            }
            (Ok(()), _) => {}
        }
        self.emit(out, now.mono);
        if let (true, Some(reason)) = (denied || !self.leaves_in_order(), self.session.reason()) {
            let dropped = self.scheduler.clear();
            self.counters.dropped(reason, dropped);
        }
        outcome
    }

    /// Fires the timer of the session if it is due.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.poll_timeout().is_some_and(|due| now.mono >= due) {
            let _refused = self.handle(Input::TimerFired, now);
        }
    }

    /// When to call [`Self::handle_timeout`]; `None` once closed.
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.session.due()
    }

    /// The next output. Never [`Output::Send`]: those frames come from [`Self::poll_transmit`].
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Appends the next frames to `buffer`: as many as fit into `budget` bytes, but at least one if any
    /// waits. Pass a budget that the socket takes now: no frame overtakes one that was handed out.
    pub fn poll_transmit(&mut self, budget: usize, now: Now, buffer: &mut Vec<u8>) {
        let before = buffer.len();
        loop {
            self.counters.dropped(Reason::LinkQueueDelay, self.scheduler.shed(now.mono));
            let Some(frame) = self.scheduler.pop(buffer.len() - before, budget, now.mono) else { return };
            self.counters.sent(frame.wire_len());
            frame.write(buffer);
        }
    }

    /// State of the session.
    pub const fn state(&self) -> SessionState {
        self.session.state()
    }

    /// When the state was entered, on the boot clock.
    pub const fn since(&self) -> Mono {
        self.since
    }

    /// Why the session is closed or draining. Absent in other states.
    pub const fn reason(&self) -> Option<Reason> {
        self.session.reason()
    }

    /// Id of the peer, in states established and suspect.
    pub fn peer(&self) -> Option<NodeId> {
        self.session.live().map(Live::peer)
    }

    /// Latest measured round trip, in states established and suspect.
    pub fn rtt(&self) -> Option<Duration> {
        self.session.live().and_then(Live::rtt)
    }

    /// True while a peer that was asked is silent: acknowledgements of its kernel matter now.
    pub fn is_watched(&self) -> bool {
        self.session.live().is_some_and(Live::is_watched)
    }

    /// Median round trip and loss, updated when they changed by a tenth. Absent before the first probe was
    /// answered or missed, and in other states than established and suspect.
    pub fn measured(&self) -> Option<Measured> {
        self.session.live().and_then(Live::measured)
    }

    /// Totals since the connection began.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Ends the session because of bytes that are not frames, with a goodbye that says so.
    fn refuse_bytes(&mut self, reason: Reason, now: Now) -> Result<(), Reject> {
        self.counters.rejected(reason);
        let said = self.handle(Input::DrainAsked(reason), now);
        self.handle(Input::Broken(reason), now).and(said)
    }

    fn emit(&mut self, out: Vec<Output>, now: Mono) {
        for output in out {
            match output {
                Output::Send(frame) => self.queue(&frame, now),
                Output::Established(_)
                | Output::Received(_)
                | Output::LaneAsked(_)
                | Output::Suspected
                | Output::Recovered
                | Output::ProbeAnswered { .. }
                | Output::EchoAnswered { .. }
                | Output::Closed(_) => self.outputs.push_back(output),
            }
        }
    }

    fn queue(&mut self, frame: &Frame, now: Mono) {
        let encoded = match frame.encoded() {
            Ok(encoded) => encoded.waiting_since(now),
            Err(error) => return self.counters.rejected(error.reason()),
        };
        match frame.kind {
            FrameKind::Hello => self.scheduler.push_first(encoded),
            FrameKind::Bye => {
                let dropped = self.scheduler.push_last(encoded);
                self.said_goodbye = true;
                self.counters.dropped(self.session.reason().unwrap_or(Reason::LinkClosed), dropped);
            }
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
            | FrameKind::RelayRow => match self.scheduler.push(QueueId::of(frame), encoded) {
                Ok(dropped) => self.counters.dropped(Reason::LinkQueueFull, dropped),
                Err(Full) => self.counters.rejected(Reason::LinkQueueFull),
            },
        }
    }

    /// The answer to a question whose queue is full. The session does not see such a question.
    fn answer_without_room(&self, input: &Input) -> Option<Output> {
        let full = |queue| !self.scheduler.has_room(queue, ECHO_WIRE_MAX);
        let answer = Answer::Failed(Reason::LinkQueueFull);
        match *input {
            Input::ProbeAsked { token } if full(QueueId::Own) => {
                Some(Output::ProbeAnswered { token, answer })
            }
            Input::EchoAsked { token, class, .. } if full(QueueId::of_class(class)) => {
                Some(Output::EchoAnswered { token, answer })
            }
            Input::ProbeAsked { .. }
            | Input::EchoAsked { .. }
            | Input::Opened
            | Input::Authenticated { .. }
            | Input::Received(_)
            | Input::SendAsked(_)
            | Input::Noticed { .. }
            | Input::PermitChanged(_)
            | Input::TimingChanged(_)
            | Input::DrainAsked(_)
            | Input::Broken(_)
            | Input::TimerFired => None,
        }
    }

    /// True while frames may be sent: the session is not closed, or its goodbye is not sent yet.
    fn leaves_in_order(&self) -> bool {
        self.state() != SessionState::Closed || self.said_goodbye
    }
}
