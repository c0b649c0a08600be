//! When every row of a cluster is read and checked, and not only the rows that the outbox names.
//!
//! Whoever writes the database can alter a row without naming it in the outbox. Reading every row from time to
//! time finds it.

use std::time::Duration;

use tokio::time::Instant;

/// The checks of one cluster by one publisher.
#[derive(Debug)]
pub(crate) struct RowChecks {
    every: Duration,
    /// Since when every row is known to be as it was written; `None` until then, and after a finding.
    whole: Option<Instant>,
}

impl RowChecks {
    /// Nothing was read yet. `every` zero makes every version one of all rows.
    pub fn new(every: Duration) -> Self {
        Self { every, whole: None }
    }

    /// Whether the next round reads every row.
    pub fn is_due(&self) -> bool {
        self.whole.is_none_or(|whole| whole.elapsed() >= self.every)
    }

    /// Whether a round without a new version reads every row.
    pub fn is_due_when_idle(&self) -> bool {
        !self.every.is_zero() && self.is_due()
    }

    /// When a round begins for the sake of the check alone.
    pub fn next_at(&self) -> Instant {
        let now = Instant::now();
        match self.whole {
            Some(whole) if !self.every.is_zero() => (whole + self.every).max(now),
            // With the next version, or the next try.
            Some(_) | None => now + IDLE,
        }
    }

    /// Every row was read, and the plan of them is the one that is served.
    pub fn passed(&mut self) {
        self.whole = Some(Instant::now());
    }

    /// Something was wrong: until it is put right every round reads every row.
    pub fn failed(&mut self) {
        self.whole = None;
    }
}

const IDLE: Duration = Duration::from_secs(3600);
