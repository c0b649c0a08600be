//! What was refused, by reason: counted for status and metrics.

use std::collections::BTreeMap;

use rap_types::{Reason, Wall};

/// Refusals since start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejects {
    last: Option<(Reason, Wall)>,
    counts: BTreeMap<Reason, u64>,
}

impl Rejects {
    /// Counts one refusal at `at`.
    pub fn count(&mut self, reason: Reason, at: Wall) {
        self.last = Some((reason, at));
        let count = self.counts.entry(reason).or_default();
        *count = count.saturating_add(1);
    }

    /// The latest refusal and when it was.
    pub const fn last(&self) -> Option<(Reason, Wall)> {
        self.last
    }

    /// How often each reason occurred.
    pub fn counts(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        self.counts.iter().map(|(reason, count)| (*reason, *count))
    }
}
