//! How many connections, or handshakes, there may be at once: in all, and from one source.
//!
//! Owns the counts. Refuses to own what happens to a refused connection.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Shared counts; clones are the same budget.
#[derive(Debug, Clone)]
pub struct SourceBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    total: u32,
    per_source: u32,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    by_source: BTreeMap<IpAddr, u32>,
}

/// One place; dropping it gives it back.
#[derive(Debug)]
pub struct SourcePermit {
    budget: SourceBudget,
    source: IpAddr,
}

impl SourceBudget {
    /// A budget of `total`, of which one source may have `per_source`.
    pub fn new(total: u32, per_source: u32) -> Self {
        Self(Arc::new(Budget { total, per_source, counts: Mutex::default() }))
    }

    /// Takes a place for a connection from `source`; `None` if there is none left.
    pub fn take(&self, source: IpAddr) -> Option<SourcePermit> {
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.by_source.get(&source).copied().unwrap_or(0);
        if counts.all >= self.0.total || own >= self.0.per_source {
            return None;
        }
        counts.all += 1;
        counts.by_source.insert(source, own + 1);
        Some(SourcePermit { budget: self.clone(), source })
    }
}

impl Drop for SourcePermit {
    fn drop(&mut self) {
        let mut counts = self.budget.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(own) = counts.by_source.get_mut(&self.source) {
            *own -= 1;
            if *own == 0 {
                counts.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_take_the_place_of_another_and_places_come_back() {
        let budget = SourceBudget::new(3, 2);
        let (one, two, three) =
            (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]), IpAddr::from([127, 0, 0, 3]));
        let first = budget.take(one).unwrap();
        let _second = budget.take(one).unwrap();
        assert!(budget.take(one).is_none());
        let _third = budget.take(two).unwrap();
        assert!(budget.take(three).is_none(), "the total is used up");
        drop(first);
        assert!(budget.take(three).is_some());
        assert_eq!(
            budget.0.counts.lock().unwrap().by_source.len(),
            2,
            "sources without a place are forgotten"
        );
    }
}
