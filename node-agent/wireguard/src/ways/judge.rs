//! When the traffic leaves the direct way to a peer, and when it comes back to it.

use std::net::SocketAddr;
use std::time::Duration;

use rap_types::{Mono, RoundTrips};

use super::direct::{Direct, ROUND};
use super::trial::Step;
use super::{Act, Ways};
use crate::liveness::{Kind, Liveness, Verdict};
use crate::way::Way;

impl Ways {
    /// Judges the direct way, or looks for one.
    pub(super) fn check_direct(&mut self, now: Mono, acts: &mut Vec<Act>) {
        let seeks = self.seeks();
        match &mut self.direct {
            Direct::InUse { liveness, judged } if *judged => match liveness.check(now) {
                Verdict::Wait => {}
                Verdict::Probe => {
                    let suspect = liveness.is_suspect();
                    let ways: Vec<_> = if suspect {
                        self.endpoints.ring().into_iter().take(ROUND_SIZE).collect()
                    } else {
                        self.endpoints.current().into_iter().collect()
                    };
                    ways.into_iter().for_each(|address| self.probe(Way::Udp(address), now, acts));
                }
                Verdict::Dead => self.direct_died(now, acts),
            },
            Direct::InUse { .. } => {}
            Direct::Trial(trial) => {
                if trial.is_won(now, self.moved) {
                    let (address, round_trips) = (trial.address, trial.round_trips.clone());
                    return self.move_up(address, round_trips, now);
                }
                let address = trial.address;
                match trial.check(now) {
                    Step::Wait => {}
                    Step::Probe => self.probe(Way::Udp(address), now, acts),
                    Step::Lost => self.direct = Direct::Sought(now),
                }
            }
            Direct::Sought(then) if now < then.plus(ROUND) => {}
            Direct::Absent | Direct::Sought(_) if seeks => {
                self.direct = Direct::Sought(now);
                for address in self.endpoints.round(ROUND_SIZE) {
                    self.probe(Way::Udp(address), now, acts);
                }
            }
            Direct::Absent | Direct::Sought(_) => {}
        }
    }

    /// The direct way is silent. It stays if there is no other: then handshakes judge it, as they do for a peer that
    /// never answered a probe. A path with the peer shows that it would answer.
    fn direct_died(&mut self, now: Mono, acts: &mut Vec<Act>) {
        self.renew(now, acts);
        let other = self.paths.in_use().is_some() || (self.answers && self.relayed);
        if let Direct::InUse { judged, .. } = &mut self.direct
            && !other
        {
            *judged = false;
            acts.extend(self.relayed.then_some(Act::Want));
            return;
        }
        tracing::debug!("the direct way is dead");
        self.direct = Direct::Sought(now);
        self.paths.resume(now);
    }

    fn move_up(&mut self, address: SocketAddr, round_trips: RoundTrips, now: Mono) {
        let faster = self.paths.round_trip().zip(round_trips.typical());
        let faster = faster.map(|(old, new)| old.saturating_sub(new) / 2).unwrap_or_default();
        self.holding = Some(now.plus(faster.min(LONGEST_HOLD))).filter(|until| *until > now);
        self.moved = Some(now);
        self.endpoints.authenticated(address);
        let mut liveness = Liveness::new(Kind::Direct, now);
        liveness.answered(now, round_trips.typical().unwrap_or_default());
        liveness.round_trips = round_trips;
        self.use_direct(liveness);
    }

    pub(super) fn take_address(&mut self, address: SocketAddr, now: Mono, round_trip: Duration) {
        self.endpoints.authenticated(address);
        let mut liveness = Liveness::new(Kind::Direct, now);
        liveness.answered(now, round_trip);
        self.use_direct(liveness);
    }

    pub(super) fn use_direct(&mut self, liveness: Liveness) {
        self.direct = Direct::InUse { liveness, judged: true };
        self.wanting = None;
    }
}

/// Addresses probed at once.
const ROUND_SIZE: usize = 4;
/// Longest time that new packets wait for those on a slower way.
const LONGEST_HOLD: Duration = Duration::from_millis(30);
