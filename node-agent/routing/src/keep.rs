//! When a choice is kept although another path looks better.
//!
//! Owns hysteresis, the penalty on what was just left, and both guards. A path that fails is left without asking here.

use std::time::Duration;

use rap_types::Mono;
use serde::{Deserialize, Serialize};

use crate::lane::Lane;

/// Whether a cost is so much lower that it is worth a change.
pub(crate) fn is_worth_it(lane: Lane, present: u32, other: u32) -> bool {
    let weights = lane.weights();
    f64::from(other) < f64::from(present) * (1.0 - weights.hysteresis)
        && present.saturating_sub(other) > weights.least_us
}

/// What a cost counts if a relay of the path was left so long ago.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most half more than a cost")]
pub(crate) fn penalised(cost: u32, left: Duration) -> u32 {
    (f64::from(cost) * (1.0 + 0.5 * (-left.as_secs_f64() / LEFT_HALF_LIFE_S).exp2())).round() as u32
}

/// Changes to a better path that one destination may still make.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bucket {
    tokens: u32,
    since: Mono,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { tokens: BURST, since: Mono(0) }
    }
}

impl Bucket {
    /// True if there is one.
    pub(crate) fn has(&self, now: Mono) -> bool {
        self.filled(now).tokens > 0
    }

    pub(crate) fn take(&mut self, now: Mono) {
        *self = self.filled(now);
        self.tokens = self.tokens.saturating_sub(1);
    }

    /// When there is one again; `None`: there is one now.
    pub(crate) fn next(&self, now: Mono) -> Option<Mono> {
        let filled = self.filled(now);
        (filled.tokens == 0).then(|| filled.since.plus(EVERY))
    }

    fn filled(&self, now: Mono) -> Self {
        if self.tokens >= BURST {
            return Self { tokens: BURST, since: now };
        }
        let due = now.since(self.since).as_nanos() / EVERY.as_nanos();
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        let tokens = self.tokens.saturating_add(due);
        if tokens >= BURST {
            return Self { tokens: BURST, since: now };
        }
        Self { tokens, since: self.since.plus(EVERY.saturating_mul(due)) }
    }
}

/// Changes to better paths of all destinations within a second: everybody who left at once would meet on one relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Herd {
    since: Mono,
    moved: u32,
}

impl Herd {
    /// True if another one of so many destinations may move now.
    pub(crate) fn admits(&self, destinations: usize, now: Mono) -> bool {
        let most = u32::try_from(destinations / HERD_SHARE).unwrap_or(u32::MAX).max(1);
        now.since(self.since) >= SECOND || self.moved < most
    }

    pub(crate) fn moved(&mut self, now: Mono) {
        if now.since(self.since) >= SECOND {
            *self = Self { since: now, moved: 0 };
        }
        self.moved += 1;
    }
}

const LEFT_HALF_LIFE_S: f64 = 60.0;
const EVERY: Duration = Duration::from_secs(10);
const BURST: u32 = 3;
const SECOND: Duration = Duration::from_secs(1);
/// A fifth.
const HERD_SHARE: usize = 5;
