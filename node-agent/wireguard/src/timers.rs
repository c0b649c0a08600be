//! Timers: retransmission, rekeying, keepalives, deadlines.

use rap_types::Mono;

use crate::active::ActiveConfig;
use crate::peer_state::{Datagrams, TICK_ROOM, WAYS_ROOM};
use crate::tunnel::Tunnel;
use crate::way::PathEvent;

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

    /// Looks at the peers whose time has come, as many as fit into `out`. True: there are more.
    pub(crate) fn look_at_ways(&self, now: Mono, out: &mut Datagrams) -> bool {
        let active = self.active();
        while out.room() >= WAYS_ROOM {
            let Some((due, index)) = self.agenda.take(now) else { return false };
            // It went meanwhile.
            let Some(entry) = active.by_index(index) else { continue };
            let mut state = entry.lock();
            if state.disarm(due) && !state.is_expired(now) {
                let result = state.look_at_ways(now, out);
                self.count(result);
                self.settle(entry, &mut state, now);
            }
        }
        true
    }

    /// Takes a path that came or went. Needs [`crate::peer_state::SEND_ROOM`] free slots.
    pub(crate) fn path_changed(
        &self,
        active: &ActiveConfig,
        now: Mono,
        change: &PathEvent,
        out: &mut Datagrams,
    ) {
        let (PathEvent::Up { peer, .. } | PathEvent::Down { peer, .. }) = change else { return };
        let Some(entry) = active.by_key(peer.as_bytes()) else { return };
        let mut state = entry.lock();
        let result = match change {
            PathEvent::Up { end, slot, .. } if !state.is_expired(now) => state.path_up(*end, *slot, now, out),
            PathEvent::Down { end, .. } => state.path_down(*end, now, out),
            PathEvent::Up { .. } | PathEvent::Received { .. } => Ok(()),
        };
        self.count(result);
        self.settle(entry, &mut state, now);
    }
}
