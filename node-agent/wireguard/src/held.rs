//! Packets that wait for a way.
//!
//! Owns their order, their number and how long they wait.

use std::collections::VecDeque;
use std::time::Duration;

use rap_types::Mono;

/// Packets to one peer, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Held(VecDeque<(Mono, Vec<u8>)>);

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// False: there is no room.
    pub(crate) fn push(&mut self, packet: &[u8], now: Mono) -> bool {
        let room = self.0.len() < PACKETS;
        if room {
            self.0.push_back((now, packet.to_vec()));
        }
        room
    }

    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        self.0.pop_front().map(|(_, packet)| packet)
    }

    /// Drops those that waited too long; their number.
    pub(crate) fn expire(&mut self, now: Mono) -> u64 {
        let before = self.0.len();
        self.0.retain(|(since, _)| now.since(*since) < LONGEST);
        (before - self.0.len()) as u64
    }

    /// When the oldest has waited too long.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.0.front().map(|(since, _)| since.plus(LONGEST))
    }
}

/// 80 KiB per peer at the usual MTU.
const PACKETS: usize = 64;
/// Whoever sent it has sent it again by then.
const LONGEST: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_none_waits_for_ever() {
        let mut held = Held::default();
        let pushed = (0..100u8).filter(|number| held.push(&[*number], Mono(u64::from(*number)))).count();
        assert_eq!(pushed, PACKETS);
        assert_eq!(held.pop(), Some(vec![0]));
        assert_eq!(held.due(), Some(Mono(1).plus(LONGEST)));
        assert_eq!(held.expire(Mono(1).plus(LONGEST)), 1);
        assert_eq!(held.pop(), Some(vec![2]));
        assert_eq!(held.expire(Mono(99).plus(LONGEST)), 61);
        assert!(held.is_empty());
    }
}
