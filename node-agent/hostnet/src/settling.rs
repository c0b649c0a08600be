//! Conflicts over time: one counts after it lasted, and is over after it was gone as long.
//!
//! Whoever adds a route for a moment must not be able to cut an overlay that works.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rap_types::Mono;

use crate::conflicts::Conflict;

/// The conflicts that count.
#[derive(Debug, Clone, Default)]
pub struct Settling {
    known: BTreeMap<Conflict, State>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    counts: bool,
    /// Since when what is seen differs from `counts`.
    differs: Option<Mono>,
}

impl Settling {
    /// Takes conflicts that were there before anything was applied: they count at once.
    pub fn admit(&mut self, seen: impl IntoIterator<Item = Conflict>) {
        let counts = State { counts: true, differs: None };
        self.known.extend(seen.into_iter().map(|conflict| (conflict, counts)));
    }

    /// Takes what is seen now. True if the conflicts that count changed.
    pub fn observe(&mut self, seen: impl IntoIterator<Item = Conflict>, now: Mono) -> bool {
        let seen: BTreeSet<Conflict> = seen.into_iter().collect();
        for conflict in &seen {
            self.known.entry(conflict.clone()).or_default();
        }
        let mut changed = false;
        self.known.retain(|conflict, state| {
            let is_seen = seen.contains(conflict);
            if is_seen == state.counts {
                state.differs = None;
                return is_seen;
            }
            let since = *state.differs.get_or_insert(now);
            if now.since(since) < LASTS {
                return true;
            }
            changed = true;
            *state = State { counts: is_seen, differs: None };
            is_seen
        });
        changed
    }

    /// The conflicts that count now.
    pub fn counting(&self) -> impl Iterator<Item = &Conflict> {
        self.known.iter().filter(|(_, state)| state.counts).map(|(conflict, _)| conflict)
    }

    /// When what counts may change although nothing else is seen.
    pub fn due(&self) -> Option<Mono> {
        let lasts = Mono(LASTS.as_nanos() as u64);
        self.known.values().filter_map(|state| state.differs).min().map(|since| Mono(since.0 + lasts.0))
    }
}

/// How long a conflict lasts before it counts, and is gone before it is over.
const LASTS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conflicts::{Because, Class};
    use crate::facts::HostRoute;

    fn conflict(prefix: &str) -> Conflict {
        let route = HostRoute { prefix: prefix.parse().unwrap(), next_hop: None, connected: false };
        Conflict { prefix: route.prefix, class: Class::Inside, because: Because::Route(route) }
    }

    fn begun() -> Settling {
        let mut settling = Settling::default();
        settling.admit([conflict("100.96.7.0/24")]);
        settling
    }

    fn seconds(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    fn counting(settling: &Settling) -> Vec<String> {
        settling.counting().map(|conflict| conflict.prefix.to_string()).collect()
    }

    #[test]
    fn a_conflict_counts_after_five_seconds_and_is_over_five_seconds_after_it_went() {
        let mut settling = Settling::default();
        let one = || [conflict("100.96.7.0/24")];
        assert!(!settling.observe(one(), seconds(10)));
        assert_eq!(settling.due(), Some(seconds(15)));
        assert!(!settling.observe(one(), seconds(14)) && counting(&settling).is_empty());
        assert!(settling.observe(one(), seconds(15)));
        assert_eq!(counting(&settling), ["100.96.7.0/24"]);
        assert_eq!(settling.due(), None);
        assert!(!settling.observe([], seconds(20)));
        assert!(!settling.observe([], seconds(24)));
        assert_eq!(counting(&settling).len(), 1);
        assert!(settling.observe([], seconds(25)) && counting(&settling).is_empty());
    }

    #[test]
    fn a_route_that_comes_and_goes_never_counts_and_one_that_flaps_stays() {
        let mut settling = Settling::default();
        for second in 0..60 {
            let seen = (second % 4 < 2).then(|| conflict("100.96.7.0/24"));
            assert!(!settling.observe(seen, seconds(second)), "{second}");
        }
        let mut settling = begun();
        for second in 0..60 {
            let seen = (second % 4 < 2).then(|| conflict("100.96.7.0/24"));
            assert!(!settling.observe(seen, seconds(second)), "{second}");
        }
        assert_eq!(counting(&settling).len(), 1);
    }

    #[test]
    fn what_is_there_at_the_start_counts_at_once_and_others_are_not_touched() {
        let mut settling = begun();
        assert_eq!(counting(&settling).len(), 1);
        let both = || [conflict("100.96.7.0/24"), conflict("100.96.8.0/24")];
        assert!(!settling.observe(both(), seconds(1)));
        assert!(settling.observe(both(), seconds(6)));
        assert!(!settling.observe([conflict("100.96.8.0/24")], seconds(7)));
        assert!(settling.observe([conflict("100.96.8.0/24")], seconds(12)));
        assert_eq!(counting(&settling), ["100.96.8.0/24"]);
    }
}
