//! Token buckets.

use std::collections::BTreeMap;

use rap_types::{Mono, NodeId};

/// So many per second, and so many at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    /// Tokens in billionths.
    level: u64,
    at: Mono,
}

impl Bucket {
    pub(crate) fn full(limit: (u32, u32), now: Mono) -> Self {
        Self { level: u64::from(limit.1) * WHOLE, at: now }
    }

    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self, limit: (u32, u32), now: Mono) -> bool {
        self.fill(limit, now);
        let enough = self.level >= WHOLE;
        if enough {
            self.level -= WHOLE;
        }
        enough
    }

    /// Takes so many tokens, if there are as many.
    pub(crate) fn take_many(&mut self, count: usize, limit: (u32, u32), now: Mono) -> bool {
        self.fill(limit, now);
        let level = (count as u64).checked_mul(WHOLE).and_then(|cost| self.level.checked_sub(cost));
        if let Some(level) = level {
            self.level = level;
        }
        level.is_some()
    }

    fn fill(&mut self, (rate, burst): (u32, u32), now: Mono) {
        // Per nanosecond the level rises by `rate` billionths.
        let passed = now.0.saturating_sub(self.at.0);
        self.level =
            self.level.saturating_add(passed.saturating_mul(u64::from(rate))).min(u64::from(burst) * WHOLE);
        self.at = self.at.max(now);
    }
}

/// One bucket per node. Buckets that are full again are forgotten.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buckets(BTreeMap<NodeId, Bucket>);

impl Buckets {
    pub(crate) fn take(&mut self, node: NodeId, limit: (u32, u32), now: Mono) -> bool {
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&node) {
            self.0.retain(|_, bucket| {
                bucket.fill(limit, now);
                bucket.level < u64::from(limit.1) * WHOLE
            });
        }
        self.0.entry(node).or_insert_with(|| Bucket::full(limit, now)).take(limit, now)
    }
}

const WHOLE: u64 = 1_000_000_000;
/// Nodes are known peers, so the number is bounded by the table; above this many the full ones are forgotten.
const REMEMBERED: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let limit = (50, 200);
        let mut now = Mono(5);
        let mut bucket = Bucket::full(limit, now);
        let taken = |bucket: &mut Bucket, now| (0..1000).filter(|_| bucket.take(limit, now)).count();
        assert_eq!(taken(&mut bucket, now), 200);
        now = now.plus(Duration::from_millis(100));
        assert_eq!(taken(&mut bucket, now), 5);
        now = now.plus(Duration::from_secs(3600));
        assert_eq!(taken(&mut bucket, now), 200, "no more than the burst is kept");
        assert!(!bucket.take(limit, Mono(0)), "an earlier instant gives nothing");
    }

    #[test]
    fn nodes_do_not_share_a_bucket() {
        let mut buckets = Buckets::default();
        let (a, b) = (NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        assert!(buckets.take(a, (1, 1), Mono(0)));
        assert!(!buckets.take(a, (1, 1), Mono(0)));
        assert!(buckets.take(b, (1, 1), Mono(0)));
    }
}
