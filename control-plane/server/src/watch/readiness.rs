//! Whether this replica does its work: a heartbeat over a new connection was committed lately.
//!
//! Owns the deadline, so that one heartbeat that fails alone changes nothing. Refuses to own the heartbeat
//! (`tasks/heartbeat`).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rap_types::{Mono, Reason};

/// A heartbeat that takes longer than this counts as failed.
pub(crate) const WITHIN: Duration = Duration::from_secs(6);

/// A replica without a heartbeat for so long is not ready.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(10);

/// What the heartbeats of this replica say.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<Heartbeats>);

#[derive(Debug, Default)]
struct Heartbeats {
    committed: Option<Mono>,
    failed: Option<Reason>,
}

impl Readiness {
    /// A heartbeat was committed.
    pub(crate) fn committed(&self, now: Mono) {
        *self.lock() = Heartbeats { committed: Some(now), failed: None };
    }

    /// A heartbeat failed.
    pub(crate) fn failed(&self, reason: Reason) {
        self.lock().failed = Some(reason);
    }

    /// Whether this replica is ready.
    ///
    /// # Errors
    /// Why the last heartbeat failed; `store.unavailable` before the first one.
    pub fn check(&self, now: Mono) -> Result<(), Reason> {
        let heartbeats = self.lock();
        match heartbeats.committed {
            Some(at) if now.since(at) < LOST_AFTER => Ok(()),
            Some(_) | None => Err(heartbeats.failed.unwrap_or(Reason::StoreUnavailable)),
        }
    }

    /// Whether this replica can take over the nodes of one that is not ready. One that loses its database together with others
    /// is still ready when the first of them is not any more: it takes nobody over.
    pub fn takes_over(&self, now: Mono) -> bool {
        self.lock().committed.is_some_and(|at| now.since(at) < WITHIN)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heartbeats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_ready_until_ten_seconds_without_a_heartbeat_have_passed() {
        let readiness = Readiness::default();
        let at = |seconds| Mono(0).plus(Duration::from_secs(seconds));
        assert_eq!(readiness.check(at(0)), Err(Reason::StoreUnavailable), "before the first heartbeat");
        readiness.committed(at(2));
        readiness.failed(Reason::StateNoSpace);
        assert!(readiness.takes_over(at(7)) && !readiness.takes_over(at(8)));
        assert_eq!(readiness.check(at(11)), Ok(()), "one failure alone changes nothing");
        assert_eq!(readiness.check(at(12)), Err(Reason::StateNoSpace));
        readiness.committed(at(20));
        assert_eq!(readiness.check(at(20)), Ok(()), "one heartbeat makes it ready again");
        assert_eq!(readiness.check(at(30)), Err(Reason::StoreUnavailable), "nothing was heard of any other");
    }
}
