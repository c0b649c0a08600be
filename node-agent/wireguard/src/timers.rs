//! Timers: retransmission, rekeying, keepalives, deadlines.

use rap_types::Mono;

use crate::peer::Datagrams;
use crate::tunnel::Tunnel;

/// Number of slots that the timers of one peer may use.
pub(crate) const TICK_ROOM: usize = 2;

impl Tunnel {
    /// Runs the deadlines and the handshake limiter. Call once per tick.
    pub(crate) fn tick(&self, now: Mono) {
        self.expire(now);
        // Has an effect at most once per second.
        self.identity.limiter.reset_count();
    }

    /// Runs the timers of the peers from position `from` on, as many as fit into `out`. Returns the position to
    /// continue from; `None` after the last peer.
    pub(crate) fn tick_peers(&self, from: usize, now: Mono, out: &mut Datagrams) -> Option<usize> {
        let active = self.active();
        for (position, entry) in active.peers().iter().enumerate().skip(from) {
            if out.room() < TICK_ROOM {
                return Some(position);
            }
            let mut state = entry.lock();
            if !state.is_expired(now) {
                let result = state.tick(now, out);
                self.count(result);
            }
        }
        None
    }
}
