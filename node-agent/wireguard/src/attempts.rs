//! When a peer without a session is sent another handshake initiation.
//!
//! Owns the back-off. The protocol repeats an initiation every 5 s as long as it is asked to: for thousands of peers
//! whose addresses are dead that costs a noticeable part of a processor.

use std::time::Duration;

use rap_types::Mono;

/// Initiations that a peer did not answer.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    unanswered: u32,
    /// No initiation before this time, unless there is a packet to send.
    rest: Mono,
    last: Mono,
}

impl Attempts {
    /// An initiation was sent. `addresses`: how many the peer has; each is tried twice before the first rest.
    pub(crate) fn sent(&mut self, now: Mono, addresses: usize) {
        self.unanswered = self.unanswered.saturating_add(1);
        self.last = now;
        let free = 2 * u32::try_from(addresses.max(1)).unwrap_or(u32::MAX / 2);
        let doublings = self.unanswered.saturating_sub(free).min(DOUBLINGS);
        self.rest = if doublings == 0 { now } else { now.plus((SHORTEST * (1 << doublings)).min(LONGEST)) };
    }

    /// The peer was heard.
    pub(crate) fn answered(&mut self) {
        *self = Self::default();
    }

    /// There is a packet to send: the next initiation may go as soon as the protocol allows.
    pub(crate) fn wanted(&mut self, now: Mono) {
        if now.since(self.last) >= SHORTEST {
            self.rest = now;
        }
    }

    pub(crate) fn rests(&self, now: Mono) -> bool {
        now < self.rest
    }
}

/// Between two initiations of the protocol.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(120);
const DOUBLINGS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// Initiations within so many seconds, if one may go every 5 s.
    fn initiations(seconds: u64, addresses: usize, wanted: bool) -> u32 {
        let mut attempts = Attempts::default();
        let mut sent = 0;
        for second in (0..seconds).step_by(5) {
            let now = Mono(second * 1_000_000_000);
            if wanted {
                attempts.wanted(now);
            }
            if !attempts.rests(now) {
                attempts.sent(now, addresses);
                sent += 1;
            }
        }
        sent
    }

    #[test]
    fn a_dead_address_is_tried_ever_more_rarely_unless_a_packet_wants_it() {
        assert_eq!(initiations(3600, 1, true), 720);
        let idle = initiations(3600, 1, false);
        assert!((30..=36).contains(&idle), "{idle}");
        assert!(initiations(3600, 8, false) > idle, "every address has its turn first");
        let mut attempts = Attempts::default();
        (0..9).for_each(|_| attempts.sent(Mono(7), 1));
        assert!(attempts.rests(Mono(8)));
        attempts.answered();
        assert!(!attempts.rests(Mono(8)));
    }
}
