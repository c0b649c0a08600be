//! A direct way that answered while a path carries the traffic: may the traffic go there?
//!
//! Owns the rule: probes of full size answered in a row, then a time without loss.

use std::net::SocketAddr;
use std::time::Duration;

use rap_types::{Mono, RoundTrips};

use crate::liveness::unmeasured;

/// A direct way on trial.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    pub(super) address: SocketAddr,
    pub(super) round_trips: RoundTrips,
    /// Probes answered in a row.
    answered: u8,
    /// Since when no probe was lost, once enough were answered in a row.
    clean: Option<Mono>,
    /// When the probe was sent that is not answered yet.
    asked: Option<Mono>,
    /// When the next probe is due.
    next: Mono,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Probe,
    Lost,
}

impl Trial {
    /// Begins with the answer to a first probe.
    pub(super) fn new(address: SocketAddr, now: Mono, round_trip: Duration) -> Self {
        let round_trips = unmeasured();
        let mut trial = Self { address, round_trips, answered: 0, clean: None, asked: None, next: now };
        trial.answered(now, round_trip);
        trial.next = now;
        trial
    }

    pub(super) fn answered(&mut self, now: Mono, round_trip: Duration) {
        self.round_trips.measured(round_trip);
        self.asked = None;
        self.answered = self.answered.saturating_add(1);
        if self.answered >= IN_A_ROW {
            self.clean.get_or_insert(now);
        }
        self.next = now.plus(self.round_trips.interval());
    }

    /// True if the traffic may go there. `moved`: when it did so last.
    pub(super) fn is_won(&self, now: Mono, moved: Option<Mono>) -> bool {
        self.clean.is_some_and(|clean| now.since(clean) >= CLEAN)
            && moved.is_none_or(|moved| now.since(moved) >= BETWEEN_MOVES)
    }

    pub(super) fn due(&self) -> Mono {
        self.asked.map_or(self.next, |asked| asked.plus(self.patience()))
    }

    /// A call that comes late says nothing of the way: the probe is sent again.
    pub(super) fn check(&mut self, now: Mono) -> Step {
        let due = self.due();
        if now < due {
            return Step::Wait;
        }
        if self.asked.is_some() && now.since(due) <= LATE {
            return Step::Lost;
        }
        self.asked = Some(now);
        Step::Probe
    }

    fn patience(&self) -> Duration {
        self.round_trips.interval().max(self.round_trips.longest() + GRACE)
    }
}

const IN_A_ROW: u8 = 3;
const CLEAN: Duration = Duration::from_secs(5);
const BETWEEN_MOVES: Duration = Duration::from_secs(30);
/// Beyond the longest round trip.
const GRACE: Duration = Duration::from_millis(60);
/// A check this late is the fault of this process.
const LATE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const RTT: Duration = Duration::from_millis(20);

    fn trial() -> Trial {
        Trial::new(SocketAddr::from(([192, 0, 2, 1], 7)), Mono(0), RTT)
    }

    /// Answers every probe until `end`; when the traffic may go there.
    fn run(trial: &mut Trial, end: Mono, moved: Option<Mono>) -> Option<Mono> {
        loop {
            let now = trial.due();
            if now > end {
                return None;
            }
            if trial.is_won(now, moved) {
                return Some(now);
            }
            assert_eq!(trial.check(now), Step::Probe);
            trial.answered(now.plus(RTT), RTT);
        }
    }

    #[test]
    fn three_answers_in_a_row_and_five_clean_seconds_win() {
        let won = run(&mut trial(), Mono(60_000 * MS), None).unwrap();
        assert!(won >= Mono(5_000 * MS) && won <= Mono(6_000 * MS), "{won:?}");
        let moved = Some(Mono(0));
        let won = run(&mut trial(), Mono(60_000 * MS), moved).unwrap();
        assert!(won >= Mono(30_000 * MS) && won <= Mono(31_000 * MS), "{won:?}");
    }

    #[test]
    fn a_lost_probe_ends_the_trial_unless_this_process_was_late() {
        let mut lossy = trial();
        assert_eq!(lossy.check(Mono(0)), Step::Probe);
        assert_eq!(lossy.check(Mono(100 * MS)), Step::Wait);
        let due = lossy.due();
        assert_eq!(lossy.clone().check(due), Step::Lost);
        assert_eq!(lossy.check(due.plus(LATE * 2)), Step::Probe);
    }
}
