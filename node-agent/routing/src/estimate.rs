//! What is known of the round trip and the loss of one link or one path.
//!
//! Owns the two views of a round trip: a fast one, which feels a rise at once, and a slow one, which believes a
//! recovery late. The worse of both counts.

use rap_types::Mono;
use serde::{Deserialize, Serialize};

use crate::loss::Loss;

/// An estimate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    /// Newest samples, microseconds, newest last.
    recent: Vec<(Mono, u32)>,
    samples: u32,
    slow: f64,
    deviation: f64,
    at: Mono,
    loss: Loss,
}

impl Estimate {
    /// A round trip was measured, in microseconds.
    pub(crate) fn sample(&mut self, rtt_us: u32, now: Mono) {
        let sample = f64::from(rtt_us);
        if self.samples == 0 {
            self.slow = sample;
        } else {
            let share = 1.0 - KEPT.powf(now.since(self.at).as_secs_f64() / PERIOD_S);
            // One outlier upward says little; many move it all the same.
            self.slow += share * (sample.min(self.slow * OUTLIER) - self.slow);
            self.deviation += share * ((sample - self.slow).abs() - self.deviation);
        }
        self.recent.push((now, rtt_us));
        if self.recent.len() > RECENT {
            self.recent.remove(0);
        }
        self.samples = self.samples.saturating_add(1);
        self.at = now;
    }

    /// Probes ended: so many were answered, and so many were not.
    pub(crate) fn probed(&mut self, answered: u32, lost: u32, now: Mono) {
        self.loss.count(answered, lost, now);
    }

    /// Round trip in microseconds; `prior_us` counts as three samples.
    pub(crate) fn round_trip_us(&self, prior_us: f64, now: Mono) -> f64 {
        let samples = f64::from(self.samples);
        if self.samples == 0 {
            return prior_us;
        }
        (samples * self.measured_us(now) + PRIOR_SAMPLES * prior_us) / (samples + PRIOR_SAMPLES)
    }

    /// Round trip in microseconds by what was measured alone; 0 if nothing was.
    pub(crate) fn measured_us(&self, now: Mono) -> f64 {
        let mut recent: Vec<u32> = self
            .recent
            .iter()
            .filter(|(at, _)| now.since(*at).as_secs_f64() <= RECENT_S)
            .map(|r| r.1)
            .collect();
        recent.sort_unstable();
        let fast = recent.get(recent.len() / 2).copied().map_or(0.0, f64::from);
        fast.max(self.slow)
    }

    /// Mean deviation of the round trip in microseconds.
    pub(crate) const fn deviation_us(&self) -> f64 {
        self.deviation
    }

    /// Cautious share of what is lost, 0 to 1.
    pub(crate) fn loss(&self, now: Mono) -> f64 {
        self.loss.bound(now)
    }

    /// Round trips that were measured.
    pub(crate) const fn samples(&self) -> u32 {
        self.samples
    }

    /// When the newest sample came.
    pub(crate) const fn at(&self) -> Mono {
        self.at
    }
}

/// Samples of the fast view.
const RECENT: usize = 3;
/// Two probe intervals of an idle link, and a margin.
const RECENT_S: f64 = 30.0;
/// Share of the slow view that a period keeps.
const KEPT: f64 = 0.7;
const PERIOD_S: f64 = 15.0;
const OUTLIER: f64 = 3.0;
const PRIOR_SAMPLES: f64 = 3.0;
