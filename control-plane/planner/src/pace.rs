//! How fast one node may talk. What comes faster is read later: its own stream waits, no other one does.
//!
//! Owns the count of false claims after which a stream ends. Refuses to own what messages mean, and the
//! clock.

use std::time::Duration;

use rap_types::Mono;

/// The pace of one stream.
#[derive(Debug)]
pub struct Pace {
    /// When the messages that were read would have come at the steady pace.
    due: Mono,
    refused: u32,
}

impl Pace {
    /// A stream on which nothing was read yet.
    pub fn new(now: Mono) -> Self {
        Self { due: now, refused: 0 }
    }

    /// When the next message may be read; never before `now`.
    pub fn opens(&self, now: Mono) -> Mono {
        now.plus(self.due.since(now).saturating_sub(EVERY * BURST))
    }

    /// Counts a message that was read.
    pub fn heard(&mut self, now: Mono) {
        self.due = self.due.max(now).plus(EVERY);
    }

    /// Counts a claim that proved false; false when there were enough of them.
    pub fn bears_another(&mut self) -> bool {
        self.refused += 1;
        self.refused < FALSE_CLAIMS
    }
}

const EVERY: Duration = Duration::from_millis(50);
/// After a reconnect a node has more to say.
const BURST: u32 = 200;
const FALSE_CLAIMS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_heard_at_once_and_a_flood_at_the_steady_pace() {
        let now = Mono(1);
        let mut pace = Pace::new(now);
        let mut at_once = 0;
        while pace.opens(now) <= now {
            pace.heard(now);
            at_once += 1;
        }
        assert_eq!(at_once, BURST + 1);
        assert_eq!(pace.opens(now), now.plus(EVERY));
        let later = now.plus(Duration::from_secs(60));
        assert!(pace.opens(later) <= later);
        assert!((1..FALSE_CLAIMS).all(|_| pace.bears_another()));
        assert!(!pace.bears_another());
    }
}
