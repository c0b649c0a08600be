//! Whether the peer of a link that carries data still lives: asked soon, and judged by two kinds of signs.
//!
//! Owns the times. Sends nothing and closes nothing: it says what is due.
//!
//! # Why this is sound
//! - *A lost segment kills no link.* In TCP one lost segment holds up every later frame, so the silence counts from the
//!   latest frame or the latest acknowledgement of the peer's kernel, whichever is later.
//! - *A peer whose kernel alone lives is found*: acknowledgements put the end off by at most [`OPEN_TIME`] after the
//!   first probe.
//! - *The own process is not the peer.* A call that comes late is excused once in each wait: what arrived meanwhile is
//!   read before the next one. So a machine that is always late still finds the end, in twice the time.
//! - *Every wait ends*: each stage has a due time, and no chain of stages outlives [`OPEN_TIME`] by more than one wait.

use std::time::Duration;

use rap_types::Mono;

/// A peer that was asked and has not answered by a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watch {
    /// When the first probe went out.
    asked: Mono,
    due: Mono,
    stage: Stage,
    /// The present wait was begun anew because the call came late.
    excused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// One probe is open.
    Asked,
    /// So many of the burst went out, the first one at `since`.
    Burst { sent: u8, since: Mono },
}

/// What is known of the peer beside its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signs {
    /// Latest frame.
    pub(crate) heard: Mono,
    /// Latest acknowledgement of the peer's kernel; absent: not known.
    pub(crate) acked: Option<Mono>,
    /// As [`RoundTrips::interval`].
    pub(crate) interval: Duration,
    /// As [`RoundTrips::longest`].
    pub(crate) longest: Duration,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing.
    Wait,
    /// Send a probe.
    Probe,
    /// The peer is dead.
    Dead,
}

impl Watch {
    /// Begins with the probe that is sent now.
    pub(crate) fn new(signs: Signs, now: Mono) -> Self {
        let due = suspect_at(signs).max(now.plus(BETWEEN)).min(now.plus(OPEN_TIME));
        Self { asked: now, due, stage: Stage::Asked, excused: false }
    }

    /// When [`Self::check`] is due.
    pub(crate) const fn due(&self) -> Mono {
        self.due
    }

    /// True once a silence was too long.
    pub(crate) const fn is_suspect(&self) -> bool {
        matches!(self.stage, Stage::Burst { .. })
    }

    /// Says what is due.
    pub(crate) fn check(&mut self, signs: Signs, now: Mono) -> Due {
        if now < self.due {
            return Due::Wait;
        }
        if now.since(self.due) > LATE && !self.excused {
            self.excused = true;
            self.due = now.plus(signs.interval);
            return Due::Wait;
        }
        let end = self.asked.plus(OPEN_TIME);
        if now >= end {
            return Due::Dead;
        }
        match self.stage {
            Stage::Asked => {
                let suspect_at = suspect_at(signs);
                if now < suspect_at {
                    self.wait(Stage::Asked, suspect_at.min(end));
                    return Due::Wait;
                }
                self.wait(Stage::Burst { sent: 1, since: now }, now.plus(BETWEEN));
                Due::Probe
            }
            Stage::Burst { since, .. } if signs.acked.is_some_and(|acked| acked > since) => {
                self.wait(Stage::Asked, suspect_at(signs).max(now.plus(BETWEEN)).min(end));
                Due::Wait
            }
            Stage::Burst { sent, since } if sent < BURST => {
                let sent = sent + 1;
                let pause = if sent < BURST { BETWEEN } else { signs.longest + GRACE };
                self.wait(Stage::Burst { sent, since }, now.plus(pause));
                Due::Probe
            }
            Stage::Burst { .. } => Due::Dead,
        }
    }

    fn wait(&mut self, stage: Stage, due: Mono) {
        (self.stage, self.due, self.excused) = (stage, due, false);
    }
}

/// When a silence is too long.
fn suspect_at(signs: Signs) -> Mono {
    let latest = signs.acked.map_or(signs.heard, |acked| acked.max(signs.heard));
    latest.plus(signs.interval * 9 / 5)
}

/// Probes of a burst.
const BURST: u8 = 5;
/// Between two probes of a burst.
const BETWEEN: Duration = Duration::from_millis(25);
/// Added to the longest round trip.
const GRACE: Duration = Duration::from_millis(60);
/// So long a probe may be open.
const OPEN_TIME: Duration = Duration::from_secs(2);
/// A call that comes so much later than it was due is late.
const LATE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Mono {
        Mono(1_000_000_000).plus(Duration::from_millis(millis))
    }

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A link with a round trip of 20 ms that was heard at 0.
    fn signs(acked: Option<u64>) -> Signs {
        Signs { heard: at(0), acked: acked.map(at), interval: millis(150), longest: millis(30) }
    }

    /// Calls at each due time, `late` later, until the end. `acks`: the kernel of the peer acknowledges every probe after
    /// 20 ms until then. Returns when the peer was dead, and how many probes went out.
    fn run(late: u64, acks_until: u64) -> (u64, usize) {
        let (mut now, mut probes, mut last_probe) = (150, 1, 150);
        let acked = |now: u64, last_probe: u64| {
            let acked = (last_probe + 20).min(acks_until);
            signs((acked <= now && acks_until > 0).then_some(acked))
        };
        let mut watch = Watch::new(acked(now, last_probe), at(now));
        loop {
            now = watch.due().since(at(0)).as_millis() as u64 + late;
            match watch.check(acked(now, last_probe), at(now)) {
                Due::Dead => return (now, probes),
                Due::Probe => (probes, last_probe) = (probes + 1, now),
                Due::Wait => {}
            }
            assert!(now < 20_000 && probes < 100);
        }
    }

    #[test]
    fn a_peer_that_is_gone_is_dead_in_half_a_second() {
        // Asked at 150, suspect at 270, five probes until 370, 30 + 60 ms more.
        assert_eq!(run(0, 0), (460, 6));
    }

    #[test]
    fn a_peer_whose_kernel_alone_answers_is_dead_after_two_seconds() {
        let (dead, probes) = run(0, u64::MAX);
        assert!((2_150..2_300).contains(&dead), "{dead}");
        assert!(probes < 60, "{probes}");
    }

    #[test]
    fn a_kernel_that_falls_silent_is_found_from_its_last_sign() {
        let (dead, _) = run(0, 1_000);
        assert!((1_150..1_600).contains(&dead), "{dead}");
    }

    #[test]
    fn one_late_call_says_nothing_and_a_machine_that_is_always_late_still_finds_the_end() {
        let mut watch = Watch::new(signs(None), at(150));
        assert_eq!(watch.due(), at(270));
        assert_eq!(watch.check(signs(None), at(5_000)), Due::Wait, "the own process slept");
        assert!(!watch.is_suspect());
        assert_eq!(watch.due(), at(5_150), "what arrived is read meanwhile");
        let (dead, _) = run(200, 0);
        assert!(dead < 5_000, "{dead}");
    }

    #[test]
    fn a_frame_held_up_by_a_lost_segment_does_not_end_the_link() {
        // 700 ms without a frame: the longest gap of a healthy link that was measured. Acknowledgements go on.
        let mut watch = Watch::new(signs(Some(170)), at(150));
        let mut now = 150;
        while now < 850 {
            now = watch.due().since(at(0)).as_millis() as u64;
            assert_ne!(watch.check(signs(Some(now.saturating_sub(40))), at(now)), Due::Dead, "at {now}");
        }
    }

    #[test]
    fn what_each_stage_does_with_each_sign() {
        let asked = Watch { asked: at(150), due: at(270), stage: Stage::Asked, excused: false };
        let burst = |sent| Watch { stage: Stage::Burst { sent, since: at(270) }, due: at(300), ..asked };
        let table = [
            (asked, None, 269, Due::Wait, Stage::Asked),
            (asked, None, 270, Due::Probe, Stage::Burst { sent: 1, since: at(270) }),
            (asked, Some(200), 270, Due::Wait, Stage::Asked),
            (burst(1), None, 299, Due::Wait, Stage::Burst { sent: 1, since: at(270) }),
            (burst(1), None, 300, Due::Probe, Stage::Burst { sent: 2, since: at(270) }),
            (burst(4), None, 300, Due::Probe, Stage::Burst { sent: 5, since: at(270) }),
            (burst(5), None, 300, Due::Dead, Stage::Burst { sent: 5, since: at(270) }),
            (burst(5), Some(260), 300, Due::Dead, Stage::Burst { sent: 5, since: at(270) }),
            (burst(5), Some(290), 300, Due::Wait, Stage::Asked),
            (burst(2), Some(290), 300, Due::Wait, Stage::Asked),
            (burst(5), None, 351, Due::Wait, Stage::Burst { sent: 5, since: at(270) }),
            (Watch { due: at(2_150), ..asked }, Some(2_140), 2_150, Due::Dead, Stage::Asked),
        ];
        for (before, acked, now, due, stage) in table {
            let mut watch = before;
            assert_eq!(
                (watch.check(signs(acked), at(now)), watch.stage),
                (due, stage),
                "{before:?} {acked:?} {now}"
            );
        }
    }

    proptest! {
        /// Whatever is acknowledged and however late the calls: it ends, no sooner than it may, and is never due before
        /// the call that it answers.
        #[test]
        fn every_watch_ends_and_none_ends_early(
            calls in proptest::collection::vec((0..400u64, proptest::option::of(0..400u64)), 200),
        ) {
            let mut now = 150;
            let mut watch = Watch::new(signs(None), at(now));
            let mut acked: Option<u64> = None;
            for (late, ack) in calls {
                now = watch.due().since(at(0)).as_millis() as u64 + late;
                acked = ack.map_or(acked, |ago| acked.max(Some(now.saturating_sub(ago))));
                let due = watch.check(signs(acked), at(now));
                if due == Due::Dead {
                    prop_assert!(now >= 460);
                    prop_assert!(now >= 2_150 || acked.is_none_or(|acked| now - acked >= 90), "{now} {acked:?}");
                    return Ok(());
                }
                prop_assert!(watch.due() > at(now) || due == Due::Wait);
            }
            prop_assert!(false, "200 calls");
        }
    }
}
