//! How large the tiers are, and how often the warm one is refreshed, by role.
//!
//! Owns the numbers.

use std::time::Duration;

use crate::Role;

/// Bounds of the tiers of one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// A node with less wants more, if there are candidates.
    pub active_min: usize,
    /// A node wants no more without need.
    pub active_max: usize,
    /// Candidates that are kept at hand.
    pub warm: usize,
    /// Between two looks at a warm peer, +-20 %.
    pub refresh: Duration,
}

/// The bounds of a role.
pub const fn sizes(role: Role) -> Sizes {
    let (minute, two) = (Duration::from_secs(60), Duration::from_secs(120));
    match role {
        Role::Plain => Sizes { active_min: 3, active_max: 5, warm: 16, refresh: minute },
        Role::Relay => Sizes { active_min: 8, active_max: 20, warm: 48, refresh: minute },
        Role::Thin => Sizes { active_min: 1, active_max: 3, warm: 4, refresh: two },
    }
}
