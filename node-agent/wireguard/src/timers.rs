//! What happens without a packet: retransmission, rekeying, keepalives, deadlines.

use rap_types::Mono;

use crate::peer::Datagrams;
use crate::tunnel::Tunnel;

/// Free slots that the timers of one peer may use.
pub(crate) const TICK_ROOM: usize = 2;

impl Tunnel {
    /// Deadlines and the handshake limiter, once per tick.
    pub(crate) fn tick(&self, now: Mono) {
        self.expire(now);
        // Resets itself at most once a second.
        self.identity.limiter.reset_count();
    }

    /// Timers of the peers from position `from` on, as many as fit into `out`. The position to go on from, or
    /// `None` when all had their turn.
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
