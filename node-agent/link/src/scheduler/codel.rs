//! When a frame of a path is dropped because the path sends more than its lane carries: CoDel, RFC 8289.
//!
//! Owns the times. One frame that is lost early tells the sender inside the tunnel to slow down; a queue that is only
//! full tells it late, and delays everything meanwhile. Holds no frames.

use std::time::Duration;

use rap_types::Mono;

/// The state of one path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Codel {
    /// Since when every frame had waited longer than [`TARGET`].
    late_since: Option<Mono>,
    drops: Option<Drops>,
    /// Drops of the time of drops before, and when its next one would have been.
    before: (u32, Mono),
}

/// A time of drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Drops {
    count: u32,
    next: Mono,
}

impl Codel {
    /// Whether the oldest frame, which waited for `waited`, is dropped now. `last`: nothing waits behind it.
    pub(crate) fn drops(&mut self, waited: Duration, last: bool, now: Mono) -> bool {
        if waited > OLDEST {
            return true;
        }
        if waited < TARGET || last {
            self.late_since = None;
            self.rest();
            return false;
        }
        let since = *self.late_since.get_or_insert(now);
        if now.since(since) < INTERVAL {
            self.rest();
            return false;
        }
        match self.drops {
            Some(Drops { next, .. }) if now < next => false,
            Some(Drops { count, next }) => {
                let count = count + 1;
                self.drops = Some(Drops { count, next: next.plus(pause(count)) });
                true
            }
            None => {
                // A path that fell back into its old ways goes on where it was.
                let (drops, next) = self.before;
                let soon = drops > 2 && now.since(next) < INTERVAL * 16;
                let count = if soon { drops - 2 } else { 1 };
                self.drops = Some(Drops { count, next: now.plus(pause(count)) });
                true
            }
        }
    }

    fn rest(&mut self) {
        if let Some(Drops { count, next }) = self.drops.take() {
            self.before = (count, next);
        }
    }
}

/// Time between two drops: it falls with the square root, which slows a TCP sender evenly.
fn pause(count: u32) -> Duration {
    INTERVAL.div_f64(f64::from(count.max(1)).sqrt())
}

/// Waiting time that is accepted.
const TARGET: Duration = Duration::from_millis(5);
/// Waiting longer than [`TARGET`] for so long is not a burst.
const INTERVAL: Duration = Duration::from_millis(100);
/// No frame is sent that waited longer: its sender has given it up.
const OLDEST: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LATE: Duration = Duration::from_millis(20);

    fn at(millis: u64) -> Mono {
        Mono(1_000_000_000).plus(Duration::from_millis(millis))
    }

    /// At which of these milliseconds a frame is dropped, if each is asked once and every frame is late.
    fn dropped(codel: &mut Codel, times: impl IntoIterator<Item = u64>) -> Vec<u64> {
        times.into_iter().filter(|millis| codel.drops(LATE, false, at(*millis))).collect()
    }

    #[test]
    fn a_burst_is_carried_and_a_standing_queue_is_thinned_ever_faster() {
        let mut codel = Codel::default();
        assert_eq!(dropped(&mut codel, 0..100), [0_u64; 0], "a burst of 100 ms");
        assert_eq!(dropped(&mut codel, 100..400), [100, 200, 271, 329, 379]);
    }

    #[test]
    fn one_frame_in_time_ends_the_drops_and_a_relapse_goes_on_where_it_was() {
        let mut codel = Codel::default();
        assert_eq!(dropped(&mut codel, 0..500).len(), 7);
        assert!(!codel.drops(Duration::from_millis(4), false, at(500)));
        assert_eq!(dropped(&mut codel, 501..601), [0_u64; 0]);
        assert_eq!(dropped(&mut codel, 601..700).len(), 3, "not one, as at first");
        let mut rested = Codel::default();
        dropped(&mut rested, 0..500);
        assert!(!rested.drops(Duration::ZERO, false, at(500)));
        assert_eq!(dropped(&mut rested, 5_000..5_200), [5_100], "after 16 intervals it begins anew");
    }

    #[test]
    fn the_last_frame_of_a_path_passes_unless_it_is_stale() {
        let mut codel = Codel::default();
        assert!((0..1000).all(|millis| !codel.drops(LATE, true, at(millis))));
        assert!(codel.drops(Duration::from_millis(501), true, at(1000)));
    }

    proptest! {
        /// Whatever the waits, nothing is dropped that came in time, and what is stale always is.
        #[test]
        fn nothing_in_time_is_dropped_and_nothing_stale_is_kept(
            steps in proptest::collection::vec((0..600u64, 0..50u64, any::<bool>()), 0..300),
        ) {
            let (mut codel, mut millis) = (Codel::default(), 0);
            let mut late_since = None;
            for (waited, elapsed, last) in steps {
                millis += elapsed;
                // What is stale is dropped unseen.
                if waited <= 500 {
                    late_since = (waited >= 5 && !last).then(|| late_since.unwrap_or(millis));
                }
                let drops = codel.drops(Duration::from_millis(waited), last, at(millis));
                prop_assert!(drops || waited <= 500);
                let may_drop = waited > 500 || late_since.is_some_and(|since| millis - since >= 100);
                prop_assert!(may_drop || !drops);
            }
        }
    }
}
