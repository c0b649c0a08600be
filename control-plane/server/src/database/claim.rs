//! The key of a call, and what it stands for: one act.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rap_store::IdempotencyRow;

/// The key that a caller gave a call. The first transaction of the call claims it; clones are one.
#[derive(Debug, Clone, Default)]
pub struct Claim(Option<Arc<Claimed>>);

#[derive(Debug)]
struct Claimed {
    row: IdempotencyRow,
    taken: AtomicBool,
}

impl Claim {
    /// Of a call with a key.
    pub fn of(row: IdempotencyRow) -> Self {
        Self(Some(Arc::new(Claimed { row, taken: AtomicBool::new(false) })))
    }

    /// The row of the key, if the call has one.
    pub fn row(&self) -> Option<&IdempotencyRow> {
        self.0.as_deref().map(|claimed| &claimed.row)
    }

    /// The row, once: for the first transaction of the call.
    pub fn take(&self) -> Option<&IdempotencyRow> {
        let claimed = self.0.as_deref()?;
        (!claimed.taken.swap(true, Ordering::Relaxed)).then_some(&claimed.row)
    }

    /// The row, if a transaction took it.
    pub fn taken(&self) -> Option<&IdempotencyRow> {
        let claimed = self.0.as_deref()?;
        claimed.taken.load(Ordering::Relaxed).then_some(&claimed.row)
    }
}
