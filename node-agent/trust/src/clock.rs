//! Trusted time: the wall clock, but never earlier than what signed objects have shown.
//!
//! Owns `max(wall, time_floor + time since boot elapsed)`. Refuses to own a clock.

use std::time::Duration;

use rap_types::{Mono, Now, Wall};

/// A floor under the wall clock that moves on with the time since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedClock {
    floor: Wall,
    at: Mono,
}

impl TrustedClock {
    /// Starts with the persisted floor.
    pub const fn new(floor: Wall, now: Now) -> Self {
        Self { floor, at: now.mono }
    }

    /// Trusted time of day.
    pub fn wall(&self, now: Now) -> Wall {
        now.wall.max(self.floor.plus(now.mono.since(self.at)))
    }

    /// By how much the wall clock is behind, if by more than two hosts may differ.
    pub fn behind(&self, now: Now) -> Option<Duration> {
        Some(self.wall(now).since(now.wall)).filter(|behind| *behind > TOLERANCE)
    }

    /// An authority said that it is at least `issued_at`.
    pub fn raise(&mut self, issued_at: Wall, now: Now) {
        if issued_at > self.floor.plus(now.mono.since(self.at)) {
            *self = Self { floor: issued_at, at: now.mono };
        }
    }

    /// When `deadline` comes, on the clock that no one sets; the present if it has passed.
    pub fn mono_of(&self, deadline: Wall, now: Now) -> Mono {
        now.mono.plus(deadline.since(self.wall(now)))
    }
}

/// An authority's clock may be this much ahead of an honest one.
const TOLERANCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const START: Now = Now { mono: Mono(0), wall: Wall(1_000_000) };

    #[test]
    fn wall_clock_set_back_does_not_bring_old_time_back() {
        let mut clock = TrustedClock::new(Wall(0), START);
        clock.raise(Wall(1_000_000), START);
        let later = Now { mono: Mono(0).plus(Duration::from_secs(10)), wall: Wall(5) };
        assert_eq!(clock.wall(later), Wall(1_010_000));
    }

    #[test]
    fn wall_clock_ahead_of_the_floor_is_believed() {
        let clock = TrustedClock::new(Wall(1_000_000), START);
        let later = Now { mono: Mono(1), wall: Wall(9_000_000) };
        assert_eq!(clock.wall(later), Wall(9_000_000));
    }

    #[test]
    fn a_clock_behind_by_more_than_two_hosts_may_differ_is_told() {
        let clock = TrustedClock::new(Wall(1_000_000), START);
        let at = |wall| Now { mono: Mono(0), wall: Wall(wall) };
        assert_eq!((clock.behind(at(1_000_000)), clock.behind(at(940_000))), (None, None));
        assert_eq!(clock.behind(at(939_000)), Some(Duration::from_secs(61)));
    }

    #[test]
    fn the_floor_only_rises() {
        let mut clock = TrustedClock::new(Wall(1_000_000), START);
        clock.raise(Wall(900_000), START);
        assert_eq!(clock.wall(Now { mono: Mono(0), wall: Wall(0) }), Wall(1_000_000));
    }

    #[test]
    fn a_deadline_is_as_far_on_both_clocks_and_a_passed_one_is_now() {
        let clock = TrustedClock::new(Wall(0), START);
        assert_eq!(clock.mono_of(Wall(1_002_000), START), Mono(2_000_000_000));
        assert_eq!(clock.mono_of(Wall(1), START), START.mono);
    }
}
