//! Time as an input. Cores never read a clock: shells hand them a [`Now`].

use std::time::Duration;

/// Nanoseconds since boot, suspend included (CLOCK_BOOTTIME).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Mono(pub u64);

/// Unix milliseconds. May jump; never used for a deadline that must hold.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Wall(pub i64);

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since boot.
    pub mono: Mono,
    /// Time of day.
    pub wall: Wall,
}

impl Mono {
    /// This instant moved forward, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Time from `earlier` to this instant; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Wall {
    /// This instant moved forward, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This instant moved back, saturating.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to this instant; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Now {
    /// Both clocks moved forward together.
    pub fn plus(self, duration: Duration) -> Self {
        Self { mono: self.mono.plus(duration), wall: self.wall.plus(duration) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Mono(u64::MAX).plus(Duration::from_secs(1)), Mono(u64::MAX));
        assert_eq!(Mono(1).since(Mono(2)), Duration::ZERO);
        assert_eq!(Wall(i64::MAX).plus(Duration::from_secs(1)), Wall(i64::MAX));
        assert_eq!(Wall(5).since(Wall(3)), Duration::from_millis(2));
    }
}
