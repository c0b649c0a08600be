//! How much is lost, by few probes and with forgetting.

use rap_types::Mono;
use serde::{Deserialize, Serialize};

/// A Beta posterior whose evidence fades. Few probes give a cautious bound: sixty that all came back only prove that
/// less than 5 % are lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Loss {
    lost: f64,
    answered: f64,
    at: Mono,
}

impl Loss {
    pub(crate) fn count(&mut self, answered: u32, lost: u32, now: Mono) {
        let kept = self.kept(now);
        self.lost = self.lost * kept + f64::from(lost);
        self.answered = self.answered * kept + f64::from(answered);
        self.at = now;
    }

    /// Mean and one standard deviation above it, 0 to 1.
    pub(crate) fn bound(&self, now: Mono) -> f64 {
        let kept = self.kept(now);
        let (a, b) = (PRIOR_LOST + self.lost * kept, PRIOR_ANSWERED + self.answered * kept);
        let mean = a / (a + b);
        (mean + (mean * (1.0 - mean) / (a + b + 1.0)).sqrt()).min(MOST)
    }

    fn kept(&self, now: Mono) -> f64 {
        (-now.since(self.at).as_secs_f64() / HALF_LIFE_S).exp2()
    }
}

const HALF_LIFE_S: f64 = 60.0;
/// Before anything was measured: twenty probes' worth of 0.5 %.
const PRIOR_LOST: f64 = 0.1;
const PRIOR_ANSWERED: f64 = 19.9;
/// Keeps the logarithm finite.
const MOST: f64 = 0.999;
