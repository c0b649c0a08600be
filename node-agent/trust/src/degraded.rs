//! How informed a node is, and what it may still do without the control plane.
//!
//! Owns the two deadlines and what policy makes of the table of activities. Refuses to own contact:
//! whether a stream is up is the uplink's fact; and the words, which the control plane shares.

use std::collections::BTreeSet;
use std::time::Duration;

use rap_contract::VerifiedSnapshot;
use rap_types::{Activity, ContractRow, Mono, Now, Wall};
use rap_wire::v1;

use crate::TrustedClock;

rap_types::word_enum! {
    /// How old the head is, against its own and the policy's limits.
    FreshnessState {
        /// Before `fresh_until`.
        Fresh = "fresh",
        /// Past `fresh_until`: works by policy, with a visible clock.
        Degraded = "degraded",
        /// Past `degraded_until`: only finding the control plane again, and what is marked to survive.
        Expired = "expired",
    }
}

/// Until when an activity is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Up to this instant, unless a newer head comes.
    At(Wall),
    /// For ever.
    Always,
}

/// The contract under the policy of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DegradedContract {
    /// Activities of the first row that the policy does not continue.
    ended: BTreeSet<Activity>,
    /// Peers with one of these roles are marked `survive_forever`.
    surviving_roles: BTreeSet<String>,
}

impl DegradedContract {
    /// The contract under a policy. A word that this version does not know ends nothing it does.
    pub fn of(policy: &v1::PolicyChunk) -> Self {
        let named = |activity: &&Activity| {
            activity.row() == ContractRow::Continues
                && policy.degraded_ends.iter().any(|word| word == activity.as_str())
        };
        Self {
            ended: Activity::ALL.iter().filter(named).copied().collect(),
            surviving_roles: policy.survive_forever_roles.iter().cloned().collect(),
        }
    }

    /// True if the policy continues this activity of the first row while degraded.
    pub fn continues(&self, activity: Activity) -> bool {
        activity.row() == ContractRow::Continues && !self.ended.contains(&activity)
    }

    /// True if policy says nothing beyond the contract's own words.
    pub fn is_plain(&self) -> bool {
        self.ended.is_empty() && self.surviving_roles.is_empty()
    }

    /// True if policy marks this peer `survive_forever`.
    pub fn survives(&self, peer: &v1::PeerRecord) -> bool {
        peer.roles.iter().any(|role| self.surviving_roles.contains(role))
    }

    /// True if a node in this state may do it. `None`: it holds no snapshot at all.
    pub fn allows(&self, state: Option<FreshnessState>, activity: Activity) -> bool {
        match (activity.row(), state) {
            (ContractRow::Survives, _) | (_, Some(FreshnessState::Fresh)) => true,
            (ContractRow::Continues, Some(FreshnessState::Degraded)) => self.continues(activity),
            (ContractRow::Continues | ContractRow::RefusedAlways, _) => false,
        }
    }

    /// Until when it is allowed under a snapshot with these deadlines.
    pub fn until(&self, freshness: &Freshness, activity: Activity) -> Until {
        match activity.row() {
            ContractRow::Survives => Until::Always,
            ContractRow::Continues if self.continues(activity) => Until::At(freshness.degraded_until),
            ContractRow::Continues | ContractRow::RefusedAlways => Until::At(freshness.fresh_until),
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

    /// The same with degraded mode until `until`, if that is later: the word of a break-glass grant.
    #[must_use]
    pub fn extended(mut self, until: Option<Wall>) -> Self {
        self.degraded_until = until.map_or(self.degraded_until, |until| until.max(self.degraded_until));
        self
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

    /// True if more than three quarters of the time from its signature to `fresh_until` have passed.
    pub fn is_stale(&self, wall: Wall) -> bool {
        wall.since(self.issued_at) > self.fresh_until.since(self.issued_at) / 4 * 3
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
    fn a_head_is_stale_after_three_quarters_of_its_time() {
        assert!(!DEADLINES.is_stale(Wall(750)), "half of it is the age of a head in order");
        assert!(DEADLINES.is_stale(Wall(751)) && DEADLINES.is_stale(Wall(6_000)));
    }

    #[test]
    fn the_next_change_is_on_the_boot_clock_and_ends() {
        let at = |wall| Now { mono: Mono(7), wall: Wall(wall) };
        let clock = TrustedClock::new(Wall(0), Now { mono: Mono(0), wall: Wall(0) });
        assert_eq!(DEADLINES.next_change(&clock, at(400)), Some(Mono(600_000_007)));
        assert_eq!(DEADLINES.next_change(&clock, at(1_000)), Some(Mono(4_000_000_007)));
        assert_eq!(DEADLINES.next_change(&clock, at(9_000)), None);
    }

    /// The contract as it is written (docs/operate/degraded-mode.md), cell by cell.
    const TABLE: [(ContractRow, &str); 3] = [
        (
            ContractRow::Continues,
            "existing links and routes, failover, reconnect, probes, shortcuts, services already \
             authorised, local supervision, health checks",
        ),
        (
            ContractRow::RefusedAlways,
            "new enrollment, role or policy changes, trust-root or authority changes, partition \
             promotion, new cross-cluster trust, lease grant or renewal, expanding routes, long-lived tokens",
        ),
        (
            ContractRow::Survives,
            "control-plane reconnect, recovery ladder, what policy marks survive_forever",
        ),
    ];

    fn policy(ends: &[&str], roles: &[&str]) -> DegradedContract {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let (degraded_ends, survive_forever_roles) = (texts(ends), texts(roles));
        DegradedContract::of(&v1::PolicyChunk { degraded_ends, survive_forever_roles, ..Default::default() })
    }

    #[test]
    fn every_phrase_of_the_contract_is_one_activity_and_every_activity_a_phrase() {
        let written: Vec<(ContractRow, &str)> =
            TABLE.iter().flat_map(|(row, cell)| cell.split(", ").map(|phrase| (*row, phrase))).collect();
        let coded: Vec<(ContractRow, &str)> =
            Activity::ALL.iter().map(|activity| (activity.row(), activity.phrase())).collect();
        assert_eq!(coded, written);
        let words: BTreeSet<&str> = Activity::ALL.iter().map(|activity| activity.as_str()).collect();
        assert_eq!(words.len(), Activity::ALL.len());
    }

    #[test]
    fn degraded_keeps_traffic_and_refuses_every_expansion() {
        let contract = policy(&[], &[]);
        for activity in Activity::ALL.iter().copied() {
            let allowed = |state| contract.allows(state, activity);
            let answers = [
                allowed(Some(FreshnessState::Fresh)),
                allowed(Some(FreshnessState::Degraded)),
                allowed(Some(FreshnessState::Expired)),
                allowed(None),
            ];
            let expected = match activity.row() {
                ContractRow::Continues => [true, true, false, false],
                ContractRow::RefusedAlways => [true, false, false, false],
                ContractRow::Survives => [true; 4],
            };
            assert_eq!(answers, expected, "{}", activity.phrase());
        }
    }

    #[test]
    fn policy_ends_what_it_names_of_the_first_row_and_nothing_else() {
        let contract = policy(&["probe", "control_reconnect", "lease", "of a later version"], &[]);
        let degraded = Some(FreshnessState::Degraded);
        for activity in Activity::ALL.iter().copied() {
            let expected = activity.row() == ContractRow::Survives
                || (activity.row() == ContractRow::Continues && activity != Activity::Probe);
            assert_eq!(contract.allows(degraded, activity), expected, "{}", activity.phrase());
            assert!(contract.allows(Some(FreshnessState::Fresh), activity));
        }
    }

    #[test]
    fn every_answer_has_a_clock() {
        let contract = policy(&["shortcut"], &[]);
        for activity in Activity::ALL.iter().copied() {
            let until = contract.until(&DEADLINES, activity);
            for wall in [0, 999, 1_000, 4_999, 5_000, 9_000] {
                let by_clock = match until {
                    Until::Always => true,
                    Until::At(end) => Wall(wall) < end,
                };
                let state = Some(DEADLINES.state(Wall(wall)));
                assert_eq!(contract.allows(state, activity), by_clock, "{} at {wall}", activity.phrase());
            }
        }
    }

    #[test]
    fn peers_survive_by_the_roles_that_policy_names() {
        let peer = |role: &str| v1::PeerRecord { roles: vec![role.to_owned()], ..Default::default() };
        let contract = policy(&[], &["core"]);
        assert!(contract.survives(&peer("core")) && !contract.survives(&peer("relay-node")));
        assert!(!policy(&[], &[]).survives(&peer("core")));
    }
}
