//! The node's trusted time for TLS: certificates are judged by it, not by a wall clock set back.

use std::sync::{Arc, Mutex, PoisonError};

use rap_runtime::Clock;
use rap_trust::TrustedClock;
use rap_types::Wall;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// Trusted time, shared with TLS. Clones are the same.
#[derive(Debug, Clone)]
pub struct TrustedTime {
    clock: Clock,
    trusted: Arc<Mutex<TrustedClock>>,
}

impl TrustedTime {
    /// Starts with the persisted floor.
    pub fn new(clock: Clock, floor: Wall) -> Self {
        let trusted = Arc::new(Mutex::new(TrustedClock::new(floor, clock.now())));
        Self { clock, trusted }
    }

    /// Follows the acceptor's clock.
    pub fn set(&self, trusted: TrustedClock) {
        *self.trusted.lock().unwrap_or_else(PoisonError::into_inner) = trusted;
    }

    /// Trusted time of day.
    pub fn wall(&self) -> Wall {
        self.trusted.lock().unwrap_or_else(PoisonError::into_inner).wall(self.clock.now())
    }
}

impl TimeProvider for TrustedTime {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from(self.wall().0).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_millis(millis)))
    }
}
