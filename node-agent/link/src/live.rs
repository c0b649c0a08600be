//! The part of a session that is established or suspect: liveness, questions to the peer, answers to its
//! questions.
//!
//! Owns the silence timer, the open questions and the measurement. Does not change the state of the
//! session: it returns a [`Finding`], and `session` changes the state.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rap_types::{ChannelClass, Mono, NodeId, Reason};

use crate::carried::Carried;
use crate::facts::Timing;
use crate::frame::{Frame, FrameKind};
use crate::message;
use crate::samples::{Measured, Samples};
use crate::silence::{Judgement, Silence};
use crate::terms::{Answer, Output};

/// Data of a session in state established or suspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    timing: Timing,
    peer: NodeId,
    permit_until: Mono,
    carried: Carried,
    /// When data last arrived or was queued.
    carried_at: Mono,
    /// Latest sample of a watched peer.
    sampled: Mono,
    silence: Silence,
    next_seq: u64,
    open: BTreeMap<u64, Question>,
    rtt: Option<Duration>,
    samples: Samples,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    asked: Mono,
    due: Mono,
    what: Asked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Liveness { sample: bool },
    Probe { token: u64 },
    Echo { token: u64, payload: Bytes },
}

/// Result of one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Nothing changed.
    Steady,
    /// The peer was heard.
    Heard,
    /// Enough probes were missed to make the peer suspect.
    Doubtful,
    /// The session must end. `true`: without a goodbye of this side.
    Over(Reason, bool),
}

impl Live {
    pub(crate) fn new(timing: Timing, peer: NodeId, permit_until: Mono, carried: Carried, now: Mono) -> Self {
        let silence = Silence::new(carried.is_watched(), carried.was_dialled(), now);
        let (open, samples) = (BTreeMap::new(), Samples::default());
        Self {
            timing,
            peer,
            permit_until,
            carried,
            carried_at: now,
            sampled: Mono(0),
            silence,
            next_seq: 1,
            open,
            rtt: None,
            samples,
        }
    }

    /// Id of the peer.
    pub const fn peer(&self) -> NodeId {
        self.peer
    }

    /// Latest measured round trip.
    pub const fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Median round trip and loss, updated when they changed by a tenth.
    pub const fn measured(&self) -> Option<Measured> {
        self.samples.told()
    }

    pub(crate) const fn timing(&self) -> &Timing {
        &self.timing
    }

    pub(crate) fn set_timing(&mut self, timing: Timing) {
        self.timing = timing;
    }

    pub(crate) fn extend_permit(&mut self, until: Mono) {
        self.permit_until = until;
    }

    /// True for a frame that this connection carries to the peer, which then counts as sent now.
    pub(crate) fn sends(&mut self, frame: &Frame, now: Mono) -> bool {
        let sends = self.carried.leaves(frame).is_ok();
        if sends {
            self.passed(frame, now);
        }
        sends
    }

    /// A frame of the peer or of this side passed.
    fn passed(&mut self, frame: &Frame, now: Mono) {
        let data = frame.kind == FrameKind::Data;
        if data {
            self.carried_at = now;
        }
        // Who asks for a path waits for the answer as data will.
        if data && frame.class != ChannelClass::Telemetry || frame.kind == FrameKind::PathRequest {
            self.silence.passed(now);
        }
    }

    /// Takes what the shell noticed beside the frames of this connection.
    pub(crate) fn notice(&mut self, carried: Option<Mono>, acked: Option<Mono>) {
        carried.into_iter().for_each(|at| self.silence.passed(at));
        acked.into_iter().for_each(|at| self.silence.acked(at));
    }

    /// True while a peer that was asked is silent.
    pub(crate) const fn is_watched(&self) -> bool {
        self.silence.is_watched()
    }

    /// The earliest deadline.
    pub(crate) fn due(&self) -> Mono {
        let silence = self.silence.due(&self.timing);
        let question = self.open.values().map(|question| question.due).min().unwrap_or(silence);
        silence.min(question).min(self.permit_until).min(self.idle_end().unwrap_or(self.permit_until))
    }

    pub(crate) fn ask_probe(&mut self, token: u64, now: Mono, out: &mut Vec<Output>) {
        match self.open(Asked::Probe { token }, now) {
            Ok(seq) => out.push(Output::Send(message::probe(seq, now))),
            Err(reason) => out.push(Output::ProbeAnswered { token, answer: Answer::Failed(reason) }),
        }
    }

    pub(crate) fn ask_echo(
        &mut self,
        token: u64,
        class: ChannelClass,
        payload: Bytes,
        now: Mono,
        out: &mut Vec<Output>,
    ) {
        let frame = |seq| message::echo(class, seq, &payload);
        if payload.len() > message::ECHO_MAX {
            let answer = Answer::Failed(Reason::LinkFrameTooLarge);
            return out.push(Output::EchoAnswered { token, answer });
        }
        match self.open(Asked::Echo { token, payload: payload.clone() }, now) {
            Ok(seq) => out.push(Output::Send(frame(seq))),
            Err(reason) => out.push(Output::EchoAnswered { token, answer: Answer::Failed(reason) }),
        }
    }

    pub(crate) fn receive(&mut self, frame: &Frame, now: Mono, out: &mut Vec<Output>) -> Finding {
        match self.read(frame, now, out) {
            Ok(None) => {
                self.silence.heard(now);
                Finding::Heard
            }
            Ok(Some(goodbye)) => Finding::Over(goodbye, true),
            Err(reason) => Finding::Over(reason, false),
        }
    }

    pub(crate) fn timer(&mut self, now: Mono, out: &mut Vec<Output>) -> Finding {
        if now >= self.permit_until {
            return Finding::Over(Reason::LinkPermitExpired, false);
        }
        if self.idle_end().is_some_and(|end| now >= end) {
            return Finding::Over(Reason::LinkIdle, false);
        }
        self.expire_questions(now, out);
        self.watch_silence(now, out)
    }

    /// Answers every open question with `reason`, because the session ends.
    pub(crate) fn abandon(&mut self, reason: Reason, out: &mut Vec<Output>) {
        for question in std::mem::take(&mut self.open).into_values() {
            question.what.answer(Answer::Failed(reason), out);
        }
    }

    /// When this lane ends unless data passes.
    fn idle_end(&self) -> Option<Mono> {
        self.carried.idle_end(self.carried_at, self.timing.lane_idle)
    }

    fn open(&mut self, what: Asked, now: Mono) -> Result<u64, Reason> {
        if self.open.len() >= self.timing.open_questions {
            return Err(Reason::RateLimited);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.open.insert(seq, Question { asked: now, due: now.plus(self.timing.answer), what });
        Ok(seq)
    }

    fn read(&mut self, frame: &Frame, now: Mono, out: &mut Vec<Output>) -> Result<Option<Reason>, Reason> {
        match frame.kind {
            FrameKind::Bye => return message::read_bye(&frame.payload).map(Some),
            FrameKind::Probe => {
                out.push(Output::Send(message::probe_ack(&message::read_probe(&frame.payload)?)));
            }
            FrameKind::ProbeAck => {
                self.probe_answered(message::read_probe_ack(&frame.payload)?.seq, now, out)
            }
            FrameKind::Echo => {
                let echo = message::read_echo(&frame.payload)?;
                out.push(Output::Send(message::echo_reply(frame.class, &echo)));
            }
            FrameKind::EchoReply => {
                let echo = message::read_echo(&frame.payload)?;
                self.echo_answered(echo.seq, &echo.payload, now, out);
            }
            FrameKind::LaneRequest => {
                self.carried.arrives(frame)?;
                out.push(Output::LaneAsked(message::read_lane_request(&frame.payload)?));
            }
            FrameKind::Data
            | FrameKind::PathRequest
            | FrameKind::PathAnswer
            | FrameKind::PathWithdraw
            | FrameKind::PathFault
            | FrameKind::RelayRow => {
                self.carried.arrives(frame)?;
                self.passed(frame, now);
                out.push(Output::Received(frame.clone()));
            }
            // A second hello is never valid.
            FrameKind::Hello => return Err(Reason::LinkState),
        }
        Ok(None)
    }

    /// An answer to a question that is not open changes nothing: late answers are normal.
    fn probe_answered(&mut self, seq: u64, now: Mono, out: &mut Vec<Output>) {
        if !self.open.get(&seq).is_some_and(|question| !matches!(question.what, Asked::Echo { .. })) {
            return;
        }
        if let Some(question) = self.open.remove(&seq) {
            let rtt = now.since(question.asked);
            self.rtt = Some(rtt);
            self.silence.measured(rtt);
            if question.what.is_sample() {
                self.samples.take(Some(rtt));
            }
            question.what.answer(Answer::RoundTrip(rtt), out);
        }
    }

    fn echo_answered(&mut self, seq: u64, returned: &[u8], now: Mono, out: &mut Vec<Output>) {
        let Some(Question { what: Asked::Echo { payload, .. }, .. }) = self.open.get(&seq) else {
            return;
        };
        let same = payload == returned;
        if let Some(question) = self.open.remove(&seq) {
            let round_trip = Answer::RoundTrip(now.since(question.asked));
            let answer = if same { round_trip } else { Answer::Failed(Reason::LinkFrameMalformed) };
            question.what.answer(answer, out);
        }
    }

    fn expire_questions(&mut self, now: Mono, out: &mut Vec<Output>) {
        let late: Vec<u64> =
            self.open.iter().filter(|(_, question)| now >= question.due).map(|(seq, _)| *seq).collect();
        for seq in late {
            if let Some(question) = self.open.remove(&seq) {
                if question.what.is_sample() {
                    self.samples.take(None);
                }
                question.what.answer(Answer::Failed(Reason::ProbeTimeout), out);
            }
        }
    }

    fn watch_silence(&mut self, now: Mono, out: &mut Vec<Output>) -> Finding {
        let (watched, doubtful) = match self.silence.judge(&self.timing, now) {
            Judgement::Steady => return Finding::Steady,
            Judgement::Dead => return Finding::Over(Reason::LinkSilent, false),
            Judgement::Probe { watched, doubtful } => (watched, doubtful),
        };
        let sample = !watched || now.since(self.sampled) >= SAMPLES_APART;
        if sample {
            self.sampled = now;
        }
        let seq = self.open(Asked::Liveness { sample }, now).unwrap_or(0);
        out.push(Output::Send(message::probe(seq, now)));
        if doubtful { Finding::Doubtful } else { Finding::Steady }
    }
}

impl Asked {
    /// True for a question whose answer is part of the measurement.
    const fn is_sample(&self) -> bool {
        match self {
            Self::Probe { .. } => true,
            Self::Liveness { sample } => *sample,
            Self::Echo { .. } => false,
        }
    }

    fn answer(self, answer: Answer, out: &mut Vec<Output>) {
        match self {
            Self::Liveness { .. } => {}
            Self::Probe { token } => out.push(Output::ProbeAnswered { token, answer }),
            Self::Echo { token, .. } => out.push(Output::EchoAnswered { token, answer }),
        }
    }
}

/// Between two samples of a watched peer: it is asked more often than is measured.
const SAMPLES_APART: Duration = Duration::from_secs(1);
