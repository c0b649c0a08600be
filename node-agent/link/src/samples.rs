//! Measurement of one connection from its latest probes.
//!
//! Owns the only definition of the round-trip median and the loss of a link, and the rule which change is
//! reported. Sends no probes.

use std::collections::VecDeque;
use std::time::Duration;

/// Median and loss over the latest probes of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Median round trip of the answered probes; of an even number the lower of the two in the middle.
    /// Absent: none was answered.
    pub round_trip: Option<Duration>,
    /// Share of probes without an answer in time, in parts per million.
    pub loss_ppm: u32,
    /// Number of probes in the window: 1 to 15.
    pub samples: u32,
}

/// The latest probes of one connection. A sample is a round trip, or `None` for no answer in time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Samples {
    latest: VecDeque<Option<Duration>>,
    told: Option<Measured>,
}

impl Samples {
    pub(crate) fn take(&mut self, sample: Option<Duration>) {
        if self.latest.len() == WINDOW {
            self.latest.pop_front();
        }
        self.latest.push_back(sample);
        let measured = self.measure();
        if self.told.is_none_or(|told| differs(&measured, &told)) {
            self.told = Some(measured);
        }
    }

    /// The measurement as of its last change by a tenth or more; `None` before the first sample.
    pub(crate) const fn told(&self) -> Option<Measured> {
        self.told
    }

    fn measure(&self) -> Measured {
        let mut answered: Vec<Duration> = self.latest.iter().copied().flatten().collect();
        answered.sort_unstable();
        let round_trip = answered.get(answered.len().saturating_sub(1) / 2).copied();
        let count = |frames: usize| u32::try_from(frames).unwrap_or(u32::MAX);
        let samples = count(self.latest.len());
        let lost = count(self.latest.len() - answered.len());
        Measured { round_trip, loss_ppm: lost * 1_000_000 / samples.max(1), samples }
    }
}

fn differs(new: &Measured, told: &Measured) -> bool {
    let round_trip = match (new.round_trip, told.round_trip) {
        (Some(new), Some(told)) => new.abs_diff(told) >= (told / 10).max(NOISE),
        (new, told) => new != told,
    };
    round_trip || new.loss_ppm.abs_diff(told.loss_ppm) > told.loss_ppm / 10
}

/// Length of the window. Odd, so that a full window has one median.
const WINDOW: usize = 15;
/// A smaller change of the median is not reported.
const NOISE: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(samples: impl IntoIterator<Item = Option<u64>>) -> Samples {
        let mut all = Samples::default();
        samples.into_iter().for_each(|sample| all.take(sample.map(Duration::from_micros)));
        all
    }

    #[test]
    fn the_median_is_of_answered_probes_and_the_loss_of_all() {
        let measured = taken([Some(900), None, Some(100), Some(500), None]).measure();
        assert_eq!(measured.round_trip, Some(Duration::from_micros(500)));
        assert_eq!((measured.loss_ppm, measured.samples), (400_000, 5));
        let even = taken([Some(200), Some(100)]).measure();
        assert_eq!(even.round_trip, Some(Duration::from_micros(100)));
        let silent = taken([None]).measure();
        assert_eq!((silent.round_trip, silent.loss_ppm), (None, 1_000_000));
    }

    #[test]
    fn only_the_latest_15_count() {
        let measured = taken((0..100).map(|number| Some(number * 1000))).measure();
        assert_eq!(measured.round_trip, Some(Duration::from_millis(92)));
        assert_eq!(measured.samples, 15);
    }

    #[test]
    fn a_tenth_is_told_and_less_is_not() {
        assert_eq!(Samples::default().told(), None);
        let told = |samples: &Samples| samples.told().and_then(|told| told.round_trip);
        let mut samples = taken([Some(10_000)]);
        samples.take(Some(Duration::from_micros(9_001)));
        assert_eq!(told(&samples), Some(Duration::from_micros(10_000)), "999 us of 10 ms");
        samples.take(Some(Duration::from_micros(9_000)));
        samples.take(Some(Duration::from_micros(9_000)));
        assert_eq!(told(&samples), Some(Duration::from_micros(9_000)));
        let mut near = taken([Some(200)]);
        near.take(Some(Duration::from_micros(110)));
        assert_eq!(told(&near), Some(Duration::from_micros(200)), "noise");
    }

    #[test]
    fn loss_is_told_when_it_appears_and_when_it_is_over() {
        let mut samples = taken([Some(1000); 15]);
        samples.take(None);
        assert_eq!(samples.told().map(|told| told.loss_ppm), Some(66_666));
        (0..15).for_each(|_| samples.take(Some(Duration::from_micros(1000))));
        assert_eq!(samples.told().map(|told| told.loss_ppm), Some(0));
    }
}
