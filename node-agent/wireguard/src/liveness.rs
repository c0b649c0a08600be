//! Whether a way still works, judged by what comes back on it while something goes out.
//!
//! Owns the times: when a silent way is probed, and when it is dead. Refuses to send: it says when.

use std::time::Duration;

use rap_types::{Mono, RoundTrips};

/// Judges one way while data goes out on it.
#[derive(Debug, Clone)]
pub(crate) struct Liveness {
    pub(crate) round_trips: RoundTrips,
    /// The last frame that came, or when the judgement began.
    heard: Mono,
    stage: Stage,
    /// A probe of full size was answered. Before that smaller frames prove nothing.
    confirmed: bool,
    kind: Kind,
    /// Late calls since something was heard.
    excused: u8,
}

/// How a way may be silent for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Datagrams: what is lost holds up nothing else.
    Direct,
    /// A path: within its connections one lost segment holds up all that follow.
    Path,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Frames come.
    Quiet,
    /// So many probes went out, the last one then.
    Asked { probes: u8, last: Mono },
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wait,
    Probe,
    Dead,
}

impl Liveness {
    /// Begins to judge; a probe is due at once.
    pub(crate) fn new(kind: Kind, now: Mono) -> Self {
        Self {
            round_trips: unmeasured(),
            heard: now,
            stage: Stage::Quiet,
            confirmed: false,
            kind,
            excused: 0,
        }
    }

    /// Begins to judge again after a time in which nothing went out.
    pub(crate) fn resume(&mut self, now: Mono) {
        (self.heard, self.stage, self.excused) = (now, Stage::Quiet, 0);
    }

    /// A frame came.
    pub(crate) fn frame(&mut self, now: Mono) {
        if self.confirmed {
            self.resume(now);
        }
    }

    /// A probe was answered.
    pub(crate) fn answered(&mut self, now: Mono, round_trip: Duration) {
        self.round_trips.measured(round_trip);
        self.confirmed = true;
        self.resume(now);
    }

    /// Nothing came for longer than the first probe should take.
    pub(crate) fn is_suspect(&self) -> bool {
        matches!(self.stage, Stage::Asked { probes, .. } if probes >= 2)
    }

    /// When [`Self::check`] is to be called.
    pub(crate) fn due(&self) -> Mono {
        let interval = self.round_trips.interval();
        match (self.stage, self.kind) {
            (Stage::Quiet, _) if !self.confirmed => self.heard,
            (Stage::Quiet, _) => self.heard.plus(interval),
            (Stage::Asked { probes: 1, .. }, Kind::Direct) => self.heard.plus(interval * 9 / 5),
            (Stage::Asked { probes, last }, Kind::Direct) if probes < 1 + BURST => last.plus(BURST_GAP),
            (Stage::Asked { last, .. }, Kind::Direct) => last.plus(self.round_trips.longest() + GRACE),
            (Stage::Asked { last, .. }, Kind::Path) => last.plus(interval).min(self.end_of_path()),
        }
    }

    /// Judges. A call that comes late says nothing of the way: then the last probes are sent again. Not for ever: on a
    /// busy machine every call is late, and the way may be dead all the same.
    pub(crate) fn check(&mut self, now: Mono) -> Verdict {
        let due = self.due();
        if now < due {
            return Verdict::Wait;
        }
        if now.since(due) > LATE && self.stage != Stage::Quiet && self.excused < EXCUSES {
            self.excused += 1;
            self.heard = self.heard.max(Mono(now.0.saturating_sub(HALF_SILENT.as_nanos() as u64)));
            self.stage = Stage::Asked { probes: 2, last: now };
            return Verdict::Probe;
        }
        let probes = match self.stage {
            Stage::Quiet => 0,
            Stage::Asked { probes, .. } => probes,
        };
        let dead = match self.kind {
            Kind::Direct => probes > BURST,
            Kind::Path => probes > 0 && now >= self.end_of_path(),
        };
        if dead {
            return Verdict::Dead;
        }
        self.stage = Stage::Asked { probes: probes.saturating_add(1), last: now };
        Verdict::Probe
    }

    fn end_of_path(&self) -> Mono {
        self.heard.plus(PATH_SILENT)
    }
}

/// Round trips of a way without any measurement.
pub(crate) const fn unmeasured() -> RoundTrips {
    RoundTrips::assuming(Duration::from_millis(200), Duration::from_millis(400))
}

/// Probes to a suspect way.
const BURST: u8 = 5;
const BURST_GAP: Duration = Duration::from_millis(25);
/// Beyond the longest round trip.
const GRACE: Duration = Duration::from_millis(60);
/// Longest silence of a path that works: a link repairs a lost segment within this time.
const PATH_SILENT: Duration = Duration::from_millis(1100);
const HALF_SILENT: Duration = Duration::from_millis(550);
const EXCUSES: u8 = 2;
/// A check this late is the fault of this process.
const LATE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn ms(millis: u64) -> Mono {
        Mono(millis * MS)
    }

    fn confirmed(kind: Kind, round_trip: u64) -> Liveness {
        let mut liveness = Liveness::new(kind, ms(0));
        liveness.answered(ms(0), Duration::from_millis(round_trip));
        liveness
    }

    /// Probes sent until it is dead, and when that is.
    fn silence(mut liveness: Liveness) -> (Vec<u64>, u64) {
        let mut probes = Vec::new();
        loop {
            let now = liveness.due();
            match liveness.check(now) {
                Verdict::Probe => probes.push(now.0 / MS),
                Verdict::Dead => return (probes, now.0 / MS),
                Verdict::Wait => panic!("it was due"),
            }
        }
    }

    #[test]
    fn a_silent_direct_way_is_probed_then_suspect_then_dead() {
        assert_eq!(silence(confirmed(Kind::Direct, 20)), (vec![150, 270, 295, 320, 345, 370], 450));
        let (probes, dead) = silence(confirmed(Kind::Direct, 200));
        assert_eq!((probes[0], probes[1], dead), (300, 540, 900), "1.5 and 2.7 round trips");
        assert_eq!(silence(confirmed(Kind::Direct, 5000)).0[0], 1000, "never later than 1 s");
    }

    #[test]
    fn a_silent_path_is_given_the_time_that_a_link_repairs_a_loss_in() {
        let (probes, dead) = silence(confirmed(Kind::Path, 100));
        assert_eq!((probes[0], probes.len(), dead), (150, 7, 1100));
    }

    #[test]
    fn small_frames_prove_nothing_before_a_probe_of_full_size_was_answered() {
        let mut unproven = Liveness::new(Kind::Direct, ms(0));
        assert_eq!(unproven.check(ms(0)), Verdict::Probe);
        unproven.frame(ms(100));
        assert!(silence(unproven.clone()).1 <= 1200);
        unproven.answered(ms(100), Duration::from_millis(20));
        unproven.frame(ms(200));
        assert_eq!(unproven.due(), ms(350));
    }

    #[test]
    fn a_dead_way_is_found_even_if_every_call_is_late_and_one_answer_took_seconds() {
        for kind in [Kind::Direct, Kind::Path] {
            let mut liveness = confirmed(kind, 20);
            (0..5).for_each(|_| liveness.answered(ms(0), Duration::from_millis(20)));
            liveness.answered(ms(0), Duration::from_secs(14));
            let dead = loop {
                let late = Mono(liveness.due().0 + 150 * MS);
                if liveness.check(late) == Verdict::Dead {
                    break late.0 / MS;
                }
            };
            assert!(dead <= 2_500, "{kind:?}: {dead}");
        }
    }

    #[test]
    fn a_late_call_says_nothing_of_the_way() {
        for kind in [Kind::Direct, Kind::Path] {
            let mut liveness = confirmed(kind, 20);
            assert_eq!(liveness.check(ms(150)), Verdict::Probe);
            assert_eq!(liveness.check(ms(9_000)), Verdict::Probe, "asked again");
            assert!(liveness.due() > ms(9_000));
            liveness.answered(ms(9_010), Duration::from_millis(10));
            assert!(!liveness.is_suspect());
            let mut dead = confirmed(kind, 20);
            assert_eq!((dead.check(ms(150)), dead.check(ms(9_000))), (Verdict::Probe, Verdict::Probe));
            let end = silence(dead).1;
            assert!((9_080..=9_800).contains(&end), "{end}");
        }
    }
}
