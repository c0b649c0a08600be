//! The rate at which a lane of bulk sends: a little below what its line takes, so that no queue grows before the line
//! and small messages of the other lanes pass it.
//!
//! Owns when the lane is open, what is measured then, and the rate that follows. Reads no socket and sets none.
//!
//! # Why this is sound
//! - *A rate is measured while nothing caps it.* The best rate of capped time would shrink by itself.
//! - *A line that became slower is noticed* by round trips that stay above their least, and one that became faster at
//!   the latest after [`CAPPED_MAX`].
//! - *A lane that does not fill its line is not measured* and keeps its rate: without bulk there is nothing to cap.

use std::time::Duration;

use rap_types::Mono;

/// What the kernel says of the connection of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkSample {
    /// Bytes that the peer's kernel acknowledged since the connection began.
    pub acked: u64,
    /// Bytes wait to be sent: the line is the limit, not the sender.
    pub unsent: bool,
    /// Smoothed round trip.
    pub round_trip: Duration,
    /// Least round trip of the latest minutes.
    pub least_round_trip: Duration,
}

/// The rate of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    stage: Stage,
    last: Option<(Mono, BulkSample)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing limits the lane until it was measured for `left` more.
    Open { left: Duration, best: u64 },
    /// The lane is limited since `since`; its round trips are long since `slow`.
    Capped { since: Mono, slow: Option<Mono> },
}

impl Default for Pace {
    fn default() -> Self {
        Self { stage: Stage::Open { left: FIRST_OPEN, best: 0 }, last: None }
    }
}

impl Pace {
    /// True if the next sample is worth its system call.
    #[must_use]
    pub fn is_due(&self, now: Mono) -> bool {
        self.last.is_none_or(|(at, _)| now.since(at) >= SPAN)
    }

    /// Takes a sample, at most one per [`SPAN`]. Returns the new limit if it changes: bytes per second, or
    /// `u64::MAX` for none.
    pub fn observe(&mut self, sample: BulkSample, now: Mono) -> Option<u64> {
        let (at, before) = self.last.replace((now, sample))?;
        let span = now.since(at);
        // Of a long pause it is not known how much of it the lane was full.
        if !(before.unsent && sample.unsent) || span > SPAN_MAX || span.is_zero() {
            if let Stage::Capped { slow, .. } = &mut self.stage {
                *slow = None;
            }
            return None;
        }
        match &mut self.stage {
            Stage::Open { left, best } => {
                let acked = u128::from(sample.acked.saturating_sub(before.acked));
                let rate = acked.saturating_mul(1_000_000_000) / span.as_nanos();
                *best = (*best).max(u64::try_from(rate).unwrap_or(u64::MAX));
                *left = left.saturating_sub(span);
                if !left.is_zero() {
                    return None;
                }
                let limit = (*best / 10).saturating_mul(9).max(RATE_MIN);
                self.stage = Stage::Capped { since: now, slow: None };
                Some(limit)
            }
            Stage::Capped { since, slow } => {
                let capped = now.since(*since);
                let is_slow = sample.round_trip >= sample.least_round_trip + QUEUED;
                *slow = is_slow.then(|| slow.unwrap_or(now));
                let slow_for = slow.map_or(Duration::ZERO, |slow| now.since(slow));
                if capped < CAPPED_MAX && (slow_for < SLOW_FOR || capped < CAPPED_MIN) {
                    return None;
                }
                self.stage = Stage::Open { left: OPEN, best: 0 };
                Some(u64::MAX)
            }
        }
    }
}

/// Shortest time between two samples.
const SPAN: Duration = Duration::from_millis(100);
/// A longer time between two samples measures nothing.
const SPAN_MAX: Duration = Duration::from_secs(1);
/// How long the lane is measured at first, and later.
const FIRST_OPEN: Duration = Duration::from_secs(2);
const OPEN: Duration = Duration::from_millis(500);
/// After this time the line is measured anew, and at the earliest after the other one.
const CAPPED_MAX: Duration = Duration::from_mins(1);
const CAPPED_MIN: Duration = Duration::from_secs(10);
/// Round trips so much above their least for so long say that a queue stands before the line.
const QUEUED: Duration = Duration::from_millis(10);
const SLOW_FOR: Duration = Duration::from_secs(1);
/// 1 Mbit/s in bytes per second.
const RATE_MIN: u64 = 125_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn sample(acked: u64, unsent: bool, queued_ms: u64) -> BulkSample {
        let least_round_trip = Duration::from_millis(20);
        let round_trip = least_round_trip + Duration::from_millis(queued_ms);
        BulkSample { acked, unsent, round_trip, least_round_trip }
    }

    /// Samples each 100 ms of a full lane at `rate` bytes per second: what changed, and when in milliseconds.
    fn full(pace: &mut Pace, from_ms: u64, until_ms: u64, rate: u64, queued_ms: u64) -> Vec<(u64, u64)> {
        let samples = (from_ms..until_ms).step_by(100);
        samples
            .filter_map(|ms| {
                let limit = pace.observe(sample(ms * rate / 1_000, true, queued_ms), at(ms))?;
                Some((ms, limit))
            })
            .collect()
    }

    const LINE: u64 = 25_000_000;

    #[test]
    fn a_full_lane_is_limited_to_nine_tenths_of_its_line_after_two_seconds() {
        let mut pace = Pace::default();
        assert_eq!(full(&mut pace, 0, 30_000, LINE, 0), [(2_000, LINE / 10 * 9)]);
    }

    #[test]
    fn each_minute_the_line_is_measured_for_half_a_second_and_a_faster_one_is_used() {
        let mut pace = Pace::default();
        full(&mut pace, 0, 62_000, LINE, 0);
        let faster = 2 * LINE;
        assert_eq!(
            full(&mut pace, 62_000, 70_000, faster, 0),
            [(62_000, u64::MAX), (62_500, faster / 10 * 9)]
        );
    }

    #[test]
    fn a_queue_that_stands_for_a_second_opens_the_lane_but_not_before_ten_seconds() {
        let mut pace = Pace::default();
        full(&mut pace, 0, 15_000, LINE, 0);
        let slower = LINE / 4;
        // The acknowledged bytes of the slower line count on from another total: only differences matter.
        let changed = full(&mut pace, 15_000, 20_000, slower, 30);
        assert_eq!(changed, [(16_000, u64::MAX), (16_500, slower / 10 * 9)]);
        let again = full(&mut pace, 20_000, 30_000, slower, 30);
        assert_eq!(again.first(), Some(&(26_500, u64::MAX)));
    }

    #[test]
    fn a_lane_that_does_not_fill_its_line_and_a_pause_are_not_measured() {
        let mut pace = Pace::default();
        for ms in (0..10_000).step_by(100) {
            assert_eq!(pace.observe(sample(ms * 1_000, ms % 200 == 0, 0), at(ms)), None);
        }
        for ms in (10_000..60_000).step_by(2_000) {
            assert_eq!(pace.observe(sample(ms * 1_000, true, 0), at(ms)), None);
        }
        assert_eq!(pace, Pace { stage: Stage::Open { left: FIRST_OPEN, best: 0 }, ..pace.clone() });
    }

    #[test]
    fn no_limit_is_below_one_megabit_and_a_sample_is_due_each_hundred_milliseconds() {
        let mut pace = Pace::default();
        assert!(pace.is_due(at(0)));
        assert_eq!(full(&mut pace, 0, 2_100, 1_000, 0), [(2_000, RATE_MIN)]);
        assert!(!pace.is_due(at(2_099)) && pace.is_due(at(2_100)));
    }
}
