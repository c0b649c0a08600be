//! What a waiting join says, and how often.
//!
//! Owns the count of attempts and the pace. Refuses to own texts.

use std::time::Duration;

use rap_trust::Wait;
use rap_types::Mono;

/// How long a wait lasts and what was said of it.
pub(super) struct Progress {
    started: Mono,
    attempts: u32,
    said: Option<(Wait, Mono)>,
}

/// What there is to say about a wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It waits for another reason than before.
    New,
    /// The same was said lately.
    Before,
    /// The same for a while.
    Still { elapsed: Duration, attempts: u32 },
}

impl Progress {
    pub(super) const fn new(now: Mono) -> Self {
        Self { started: now, attempts: 0, said: None }
    }

    pub(super) const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// One more attempt ended with waiting.
    pub(super) fn waits(&mut self, why: Wait, now: Mono) -> Said {
        self.attempts = self.attempts.saturating_add(1);
        let answer = match self.said {
            Some((said, at)) if said == why && now.since(at) < AGAIN => return Said::Before,
            Some((said, _)) if said == why => {
                Said::Still { elapsed: now.since(self.started), attempts: self.attempts }
            }
            _ => Said::New,
        };
        self.said = Some((why, now));
        answer
    }
}

/// A wait is mentioned again after this long.
const AGAIN: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use rap_types::Reason;

    use super::*;

    #[test]
    fn a_wait_is_said_once_and_again_every_15_s_with_time_and_attempts() {
        let start = Mono(1_000_000_000);
        let after = |seconds: u64| start.plus(Duration::from_secs(seconds));
        let failure = Wait::Failure(Reason::ServerUnreachable);
        let mut progress = Progress::new(start);
        assert_eq!(progress.waits(failure, after(1)), Said::New);
        assert_eq!(progress.waits(failure, after(15)), Said::Before);
        let elapsed = Duration::from_secs(16);
        assert_eq!(progress.waits(failure, after(16)), Said::Still { elapsed, attempts: 3 });
        assert_eq!(progress.waits(failure, after(17)), Said::Before);
        assert_eq!(progress.waits(Wait::Approval, after(18)), Said::New);
        assert_eq!(progress.attempts(), 5);
    }
}
