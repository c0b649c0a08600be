//! Time and order statistics of measurements.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use rap_runtime::Clock;

/// A time of day with the resolution that comparing two processes needs: nanoseconds since 1970.
pub fn time_of_day_ns() -> i128 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map(Duration::from).unwrap_or_default();
    i128::try_from(now.as_nanos()).unwrap_or(i128::MAX)
}

/// Processor time that this thread has used.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// A running measurement.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(rap_types::Mono);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(Clock::new().now().mono)
    }

    /// Time since the start.
    pub fn elapsed(self) -> Duration {
        Clock::new().now().mono.since(self.0)
    }

    /// Milliseconds since the start.
    pub fn elapsed_ms(self) -> f64 {
        self.elapsed().as_secs_f64() * 1e3
    }
}

/// The middle value; of an even number the mean of the two in the middle.
pub fn median(runs: &[f64]) -> Option<f64> {
    let sorted = sorted(runs);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The smallest value that at least `rank` (0 to 1) of the runs do not exceed.
pub fn percentile(runs: &[f64], rank: f64) -> Option<f64> {
    let sorted = sorted(runs);
    let place = (rank * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(place - 1).copied()
}

fn sorted(runs: &[f64]) -> Vec<f64> {
    let mut sorted = runs.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// Microseconds of processor time per call of `work`, called for at least `at_least`. `prepare` makes its
/// input and is not counted.
pub fn microseconds_per_call<I, O>(
    at_least: Duration,
    mut prepare: impl FnMut() -> I,
    mut work: impl FnMut(I) -> O,
) -> f64 {
    let (mut spent, mut calls) = (Duration::ZERO, 0u32);
    while spent < at_least {
        let inputs: Vec<I> = (0..BATCH).map(|_| prepare()).collect();
        let mut outputs = Vec::with_capacity(BATCH);
        let began = processor_time();
        outputs.extend(inputs.into_iter().map(&mut work));
        spent += processor_time().saturating_sub(began);
        calls += BATCH as u32;
        std::hint::black_box(&outputs);
    }
    spent.as_secs_f64() * 1e6 / f64::from(calls)
}

const BATCH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_a_percentile_the_nearest_rank() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 0.99), Some(99.0));
        assert_eq!(percentile(&hundred, 0.5), Some(50.0));
        assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn every_prepared_input_is_used_once_and_in_order() {
        let (mut next, mut expected) = (0u32, 0u32);
        let spent = microseconds_per_call(
            Duration::from_micros(50),
            || {
                next += 1;
                next
            },
            |input| {
                expected += 1;
                assert_eq!(input, expected);
            },
        );
        assert!(spent > 0.0);
        assert_eq!(next, expected);
    }
}
