//! How long the peer of a connection has been silent, and what follows.
//!
//! Owns when it is probed, suspect and dead. While data passes over the link it is watched; else a slower rule holds.
//! Sends nothing: it says what is due.

use std::time::Duration;

use rap_types::{Mono, RoundTrips};

use crate::facts::Timing;
use crate::watch::{Due, Signs, Watch};

/// The silence of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Silence {
    stage: Stage,
    /// False for a connection on which bulk is before a probe: another one of the link tells sooner.
    may_watch: bool,
    /// The peer asks first: one question serves both.
    yields: bool,
    /// Until then data counts as passing.
    busy_until: Mono,
    /// When the kernel of the peer last acknowledged a segment.
    acked: Option<Mono>,
    round_trips: RoundTrips,
    /// Answers that are still wanted soon, so that a new connection is measured.
    wanted: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The peer was heard at `since`. It is probed after the idle time, or soon while data passes.
    Quiet { since: Mono },
    /// A probe was sent. It counts as missed at `due`.
    Waiting { missed: u32, due: Mono },
    /// The peer was heard at `heard` and is watched since.
    Watched { heard: Mono, watch: Watch },
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Nothing.
    Steady,
    /// Send a probe.
    Probe {
        /// One of many: the peer is watched.
        watched: bool,
        /// The peer is suspect.
        doubtful: bool,
    },
    /// The peer is dead.
    Dead,
}

impl Silence {
    pub(crate) fn new(may_watch: bool, yields: bool, now: Mono) -> Self {
        let (stage, round_trips) =
            (Stage::Quiet { since: now }, RoundTrips::assuming(UNMEASURED, UNMEASURED));
        Self { stage, may_watch, yields, busy_until: Mono(0), acked: None, round_trips, wanted: FIRST }
    }

    /// A frame of the peer came.
    pub(crate) fn heard(&mut self, now: Mono) {
        self.stage = Stage::Quiet { since: now };
    }

    /// Data passed at `at` on some connection of the link.
    pub(crate) fn passed(&mut self, at: Mono) {
        self.busy_until = self.busy_until.max(at.plus(BUSY));
    }

    /// The kernel of the peer acknowledged a segment at `at`.
    pub(crate) fn acked(&mut self, at: Mono) {
        self.acked = self.acked.max(Some(at));
    }

    /// A probe was answered.
    pub(crate) fn measured(&mut self, round_trip: Duration) {
        self.round_trips.measured(round_trip);
        self.wanted = self.wanted.saturating_sub(1);
    }

    /// True while a watched peer is silent.
    pub(crate) const fn is_watched(&self) -> bool {
        matches!(self.stage, Stage::Watched { .. })
    }

    /// When [`Self::judge`] is due.
    pub(crate) fn due(&self, timing: &Timing) -> Mono {
        match self.stage {
            Stage::Quiet { since } => self.asks_at(since, timing),
            Stage::Waiting { due, .. } => due,
            Stage::Watched { watch, .. } => watch.due(),
        }
    }

    /// Says what is due.
    pub(crate) fn judge(&mut self, timing: &Timing, now: Mono) -> Judgement {
        let missed = match self.stage {
            Stage::Quiet { since } if now < self.asks_at(since, timing) => return Judgement::Steady,
            Stage::Waiting { due, .. } if now < due => return Judgement::Steady,
            Stage::Watched { heard, watch } => return self.watch(heard, watch, now),
            Stage::Quiet { since } if self.is_busy(now) => return self.begin_watch(since, now),
            Stage::Waiting { due, .. } if self.is_busy(now) => return self.begin_watch(due, now),
            Stage::Quiet { .. } => 0,
            // A timer that fires late by more than one interval says nothing about the peer.
            Stage::Waiting { missed, due } if now >= due.plus(timing.probe_interval) => missed,
            Stage::Waiting { missed, .. } => missed + 1,
        };
        if missed >= timing.close_after {
            return Judgement::Dead;
        }
        self.stage = Stage::Waiting { missed, due: now.plus(timing.probe_interval) };
        Judgement::Probe { watched: false, doubtful: missed >= timing.suspect_after }
    }

    fn begin_watch(&mut self, heard: Mono, now: Mono) -> Judgement {
        self.stage = Stage::Watched { heard, watch: Watch::new(self.signs(heard), now) };
        Judgement::Probe { watched: true, doubtful: false }
    }

    fn watch(&mut self, heard: Mono, mut watch: Watch, now: Mono) -> Judgement {
        let due = watch.check(self.signs(heard), now);
        self.stage = Stage::Watched { heard, watch };
        match due {
            Due::Wait => Judgement::Steady,
            Due::Probe => Judgement::Probe { watched: true, doubtful: watch.is_suspect() },
            Due::Dead => Judgement::Dead,
        }
    }

    fn is_busy(&self, now: Mono) -> bool {
        self.may_watch && now < self.busy_until
    }

    /// When a peer that was heard at `since` is asked.
    fn asks_at(&self, since: Mono, timing: &Timing) -> Mono {
        let idle = if self.wanted > 0 { timing.idle.min(FIRST_APART) } else { timing.idle };
        let wait = |wait: Duration| since.plus(if self.yields { wait.mul_f64(YIELDING) } else { wait });
        let (soon, idle) = (wait(self.round_trips.interval()), wait(idle));
        if self.is_busy(soon) { soon.min(idle) } else { idle }
    }

    fn signs(&self, heard: Mono) -> Signs {
        let (interval, longest) = (self.round_trips.interval(), self.round_trips.longest());
        Signs { heard, acked: self.acked, interval, longest }
    }
}

/// By so much longer waits who was dialled. A silence is suspect after 1.8 intervals.
const YIELDING: f64 = 1.3;
/// So many probes of a new connection are sent soon.
const FIRST: u8 = 3;
const FIRST_APART: Duration = Duration::from_millis(500);
/// So long after the latest data it counts as passing.
const BUSY: Duration = Duration::from_secs(10);
/// Round trip that is assumed before one was measured.
const UNMEASURED: Duration = Duration::from_millis(100);
