//! Round trips of one connection or one way, and what they say of the next one.
//!
//! Owns the times by which a silent peer is judged. Sends nothing and judges nothing.

use std::collections::VecDeque;
use std::time::Duration;

/// The latest round trips.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundTrips {
    latest: VecDeque<Duration>,
    typical: Duration,
    longest: Duration,
}

impl RoundTrips {
    /// None yet. Until the first one is measured, `typical` and `longest` are assumed.
    pub const fn assuming(typical: Duration, longest: Duration) -> Self {
        Self { latest: VecDeque::new(), typical, longest }
    }

    /// Takes a round trip.
    pub fn measured(&mut self, round_trip: Duration) {
        if self.latest.len() == SAMPLES {
            self.latest.pop_front();
        }
        self.latest.push_back(round_trip);
    }

    /// The median; `None` before the first one.
    pub fn typical(&self) -> Option<Duration> {
        let mut sorted: Vec<_> = self.latest.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// Silence after which a peer is asked.
    pub fn interval(&self) -> Duration {
        (self.typical().unwrap_or(self.typical) * 3 / 2).clamp(SHORTEST, LONGEST)
    }

    /// The longest: of so few samples that is the 99th percentile. One answer that was held up for seconds says nothing
    /// of those to come.
    pub fn longest(&self) -> Duration {
        let Some(longest) = self.latest.iter().max().copied() else { return self.longest };
        let typical = self.typical().unwrap_or(self.typical).min(LONGEST);
        longest.min(typical * 3 + GRACE)
    }
}

/// Added to the longest round trip.
const GRACE: Duration = Duration::from_millis(60);
const SHORTEST: Duration = Duration::from_millis(150);
const LONGEST: Duration = Duration::from_secs(1);
const SAMPLES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn intervals_follow_the_round_trip_within_bounds() {
        let mut trips = RoundTrips::assuming(millis(100), millis(100));
        assert_eq!((trips.interval(), trips.longest(), trips.typical()), (millis(150), millis(100), None));
        trips.measured(millis(5_000));
        assert_eq!((trips.interval(), trips.longest()), (millis(1_000), millis(3_060)));
        (0..SAMPLES).for_each(|_| trips.measured(millis(200)));
        assert_eq!((trips.interval(), trips.longest()), (millis(300), millis(200)));
        trips.measured(millis(9_000));
        assert_eq!(trips.longest(), millis(660), "one that was held up");
        assert_eq!(trips.typical(), Some(millis(200)));
    }
}
