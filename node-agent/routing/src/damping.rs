//! A relay that fails again and again comes last for a while.

use rap_types::Mono;
use serde::{Deserialize, Serialize};

/// Figure of merit of one relay: 0 is good. It fades by half in 30 s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Damping {
    merit: f64,
    at: Mono,
    suppressed: Option<Mono>,
    left: Option<Mono>,
    disputed: Option<Mono>,
}

impl Damping {
    pub(crate) fn add(&mut self, merit: f64, now: Mono) {
        self.merit = self.merit(now) + merit;
        self.at = now;
        if self.merit >= SUPPRESSED_AT && !self.is_suppressed(now) {
            self.suppressed = Some(now);
        }
    }

    /// A better path than those through it was found. Many destinations that leave together say it once.
    pub(crate) fn left(&mut self, now: Mono) {
        if self.left.is_none_or(|left| now.since(left).as_secs_f64() >= LEFT_AGAIN_S) {
            self.left = Some(now);
            self.add(LEFT, now);
        }
    }

    /// A path through it takes much longer than it says. Many destinations behind one word say it once.
    pub(crate) fn disputed(&mut self, now: Mono) {
        if self.disputed.is_none_or(|disputed| now.since(disputed).as_secs_f64() >= DISPUTED_AGAIN_S) {
            self.disputed = Some(now);
            self.add(DISPUTED, now);
        }
    }

    pub(crate) fn merit(&self, now: Mono) -> f64 {
        self.merit * (-now.since(self.at).as_secs_f64() / HALF_LIFE_S).exp2()
    }

    /// The same in thousandths, at most a million.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within 0 and the most"
    )]
    pub(crate) fn merit_permille(&self, now: Mono) -> u32 {
        (self.merit(now) * 1000.0).round().clamp(0.0, 1e6) as u32
    }

    /// Whether it is chosen last: never longer than [`LONGEST_S`].
    pub(crate) fn is_suppressed(&self, now: Mono) -> bool {
        self.suppressed
            .is_some_and(|since| self.merit(now) > RELEASED_AT && now.since(since).as_secs_f64() < LONGEST_S)
    }
}

/// A failure or a withdrawal.
pub(crate) const FAILED: f64 = 1.0;
/// A better path was found.
const LEFT: f64 = 0.25;
const LEFT_AGAIN_S: f64 = 10.0;
/// It is slower than it says.
const DISPUTED: f64 = 0.5;
const DISPUTED_AGAIN_S: f64 = 60.0;

const HALF_LIFE_S: f64 = 30.0;
const SUPPRESSED_AT: f64 = 2.0;
const RELEASED_AT: f64 = 0.75;
const LONGEST_S: f64 = 120.0;
