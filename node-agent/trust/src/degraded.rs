//! How informed a node is, and what it may still do without the control plane.
//!
//! Owns the two deadlines and the table of activities. Refuses to own contact: whether a stream is up
//! is the uplink's fact.

use std::time::Duration;

use rap_contract::VerifiedSnapshot;
use rap_types::{Mono, Now, Wall};

use crate::TrustedClock;

/// How old the head is, against its own and the policy's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FreshnessState {
    /// Before `fresh_until`.
    Fresh,
    /// Past `fresh_until`: works by policy, with a visible clock.
    Degraded,
    /// Past `degraded_until`: only finding the control plane again, and what is marked to survive.
    Expired,
}

impl FreshnessState {
    /// The word in status and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Degraded => "degraded",
            Self::Expired => "expired",
        }
    }

    /// True if a node in this state may do it.
    pub const fn allows(self, activity: Activity) -> bool {
        match (self, activity) {
            (_, Activity::ControlReconnect | Activity::Recovery) => true,
            (Self::Fresh, _) => true,
            (
                Self::Degraded,
                Activity::ExistingRoutes
                | Activity::Failover
                | Activity::LinkReconnect
                | Activity::Probe
                | Activity::AuthorisedService
                | Activity::Supervision,
            ) => true,
            (Self::Degraded | Self::Expired, _) => false,
        }
    }
}

/// What a node might do, as the degraded-mode contract names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activity {
    /// Dial the control plane.
    ControlReconnect,
    /// Recovery ladder.
    Recovery,
    /// Traffic on links and routes that exist.
    ExistingRoutes,
    /// Switch to a precomputed backup.
    Failover,
    /// Dial a known peer again.
    LinkReconnect,
    /// Measure.
    Probe,
    /// Serve what was authorised before.
    AuthorisedService,
    /// Restart and check local workloads.
    Supervision,
    /// Admit a new node.
    Enrollment,
    /// Change roles or policy.
    PolicyChange,
    /// Change trust roots or authorities.
    TrustChange,
    /// Obtain or renew a lease.
    Lease,
    /// Use routes that no snapshot gave.
    RouteExpansion,
    /// Issue a long-lived token.
    LongLivedToken,
}

impl Activity {
    /// Every activity, in the order of the contract.
    pub const ALL: &'static [Self] = &[
        Self::ControlReconnect,
        Self::Recovery,
        Self::ExistingRoutes,
        Self::Failover,
        Self::LinkReconnect,
        Self::Probe,
        Self::AuthorisedService,
        Self::Supervision,
        Self::Enrollment,
        Self::PolicyChange,
        Self::TrustChange,
        Self::Lease,
        Self::RouteExpansion,
        Self::LongLivedToken,
    ];

    /// The word in status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ControlReconnect => "control_reconnect",
            Self::Recovery => "recovery",
            Self::ExistingRoutes => "existing_routes",
            Self::Failover => "failover",
            Self::LinkReconnect => "link_reconnect",
            Self::Probe => "probe",
            Self::AuthorisedService => "authorised_service",
            Self::Supervision => "supervision",
            Self::Enrollment => "enrollment",
            Self::PolicyChange => "policy_change",
            Self::TrustChange => "trust_change",
            Self::Lease => "lease",
            Self::RouteExpansion => "route_expansion",
            Self::LongLivedToken => "long_lived_token",
        }
    }
}

/// The two deadlines of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// When its head was signed.
    pub issued_at: Wall,
    /// Until when the node counts as informed.
    pub fresh_until: Wall,
    /// `fresh_until` plus the policy's `degraded_for`.
    pub degraded_until: Wall,
}

impl Freshness {
    /// Deadlines of a snapshot.
    pub fn of(snapshot: &VerifiedSnapshot) -> Self {
        let head = snapshot.head();
        let degraded_for = Duration::from_millis(snapshot.contents().policy.degraded_for_ms);
        Self {
            issued_at: head.issued_at,
            fresh_until: head.fresh_until,
            degraded_until: head.fresh_until.plus(degraded_for),
        }
    }

    /// State at trusted time `wall`.
    pub fn state(&self, wall: Wall) -> FreshnessState {
        if wall < self.fresh_until {
            FreshnessState::Fresh
        } else if wall < self.degraded_until {
            FreshnessState::Degraded
        } else {
            FreshnessState::Expired
        }
    }

    /// When the state changes next, on the boot clock; `None` when it has reached its last.
    pub fn next_change(&self, clock: &TrustedClock, now: Now) -> Option<Mono> {
        match self.state(clock.wall(now)) {
            FreshnessState::Fresh => Some(clock.mono_of(self.fresh_until, now)),
            FreshnessState::Degraded => Some(clock.mono_of(self.degraded_until, now)),
            FreshnessState::Expired => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Freshness =
        Freshness { issued_at: Wall(0), fresh_until: Wall(1_000), degraded_until: Wall(5_000) };

    #[test]
    fn state_changes_exactly_at_its_deadlines() {
        assert_eq!(DEADLINES.state(Wall(999)), FreshnessState::Fresh);
        assert_eq!(DEADLINES.state(Wall(1_000)), FreshnessState::Degraded);
        assert_eq!(DEADLINES.state(Wall(4_999)), FreshnessState::Degraded);
        assert_eq!(DEADLINES.state(Wall(5_000)), FreshnessState::Expired);
    }

    #[test]
    fn the_next_change_is_on_the_boot_clock_and_ends() {
        let at = |wall| Now { mono: Mono(7), wall: Wall(wall) };
        let clock = TrustedClock::new(Wall(0), Now { mono: Mono(0), wall: Wall(0) });
        assert_eq!(DEADLINES.next_change(&clock, at(400)), Some(Mono(600_000_007)));
        assert_eq!(DEADLINES.next_change(&clock, at(1_000)), Some(Mono(4_000_000_007)));
        assert_eq!(DEADLINES.next_change(&clock, at(9_000)), None);
    }

    #[test]
    fn degraded_keeps_traffic_and_refuses_every_expansion() {
        use Activity::*;
        let allowed = |state: FreshnessState| -> Vec<Activity> {
            Activity::ALL.iter().copied().filter(|activity| state.allows(*activity)).collect()
        };
        assert_eq!(allowed(FreshnessState::Fresh), Activity::ALL);
        assert_eq!(
            allowed(FreshnessState::Degraded),
            [
                ControlReconnect,
                Recovery,
                ExistingRoutes,
                Failover,
                LinkReconnect,
                Probe,
                AuthorisedService,
                Supervision
            ]
        );
        assert_eq!(allowed(FreshnessState::Expired), [ControlReconnect, Recovery]);
    }
}
