//! In which order the instances of each node's agent were heard, and what is doubted about its identity.
//!
//! Owns when one identity is in two places: two instances were heard in turn, A, B, A, B. Everything that ends one agent and
//! starts another makes a new instance, so an older one that is heard again once is a late message, or a machine that was put
//! back to a snapshot. Refuses to own what follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rap_types::{Mono, NodeId, Reason};

/// Drawn at each start of an agent.
pub type Instance = [u8; 16];

/// What is known of the identities of nodes that were heard lately.
#[derive(Debug, Default)]
pub struct Identities(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    trails: BTreeMap<NodeId, Trail>,
    doubts: BTreeMap<NodeId, Reason>,
    swept: Mono,
}

/// The instances of one node, in the order in which they were heard. Of what was heard of one without a break the first
/// and the last are kept.
#[derive(Debug, Default)]
struct Trail {
    key_generation: u64,
    heard: Vec<(Mono, Instance)>,
}

impl Identities {
    /// Notes that an instance was heard, by whichever replica. True if two were heard in turn now; what was heard before
    /// does not count again.
    pub fn heard(&self, node: NodeId, key_generation: u64, instance: Instance, at: Mono) -> bool {
        let mut known = self.lock();
        if at.since(known.swept) >= WITHIN {
            known.swept = at;
            known
                .trails
                .retain(|_, trail| trail.heard.last().is_some_and(|(last, _)| at.since(*last) < WITHIN));
        }
        let trail = known.trails.entry(node).or_default();
        if trail.key_generation != key_generation {
            *trail = Trail { key_generation, heard: Vec::new() };
        }
        trail.note(at, instance);
        let in_turn = trail.in_turn();
        if in_turn {
            trail.heard.drain(..trail.heard.len() - 1);
        }
        in_turn
    }

    /// The instance that was heard last.
    pub fn newest(&self, node: NodeId) -> Option<Instance> {
        self.lock().trails.get(&node)?.heard.last().map(|(_, instance)| *instance)
    }

    /// What is doubted about a node's identity.
    pub fn doubt(&self, node: NodeId) -> Option<Reason> {
        self.lock().doubts.get(&node).copied()
    }

    /// Notes what is doubted now. True if it is another doubt than before.
    pub fn doubted(&self, node: NodeId, doubt: Option<Reason>) -> bool {
        let mut known = self.lock();
        let before = match doubt {
            Some(reason) => known.doubts.insert(node, reason),
            None => known.doubts.remove(&node),
        };
        before != doubt
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trail {
    fn note(&mut self, at: Mono, instance: Instance) {
        let place = self.heard.partition_point(|(known, _)| *known <= at);
        self.heard.insert(place, (at, instance));
        let newest = self.heard.last().map_or(at, |(newest, _)| *newest);
        self.heard.retain(|(known, _)| newest.since(*known) < WITHIN);
        let between = |run: &[(Mono, Instance)]| run[0].1 == run[1].1 && run[1].1 == run[2].1;
        while let Some(first) = self.heard.windows(3).position(between) {
            self.heard.remove(first + 1);
        }
        if self.heard.len() > KEPT {
            self.heard.remove(0);
        }
    }

    /// True if two instances were heard in the order A, B, A, B, whatever was heard between.
    fn in_turn(&self) -> bool {
        let turns = |pair: [Instance; 2]| {
            let mut of_both =
                self.heard.iter().map(|(_, instance)| instance).filter(|one| pair.contains(one));
            let first = of_both.next();
            of_both
                .fold((first, 1), |(last, turns), one| (Some(one), turns + usize::from(last != Some(one))))
                .1
        };
        let all: BTreeSet<Instance> = self.heard.iter().map(|(_, instance)| *instance).collect();
        all.iter().any(|one| all.iter().any(|other| one < other && turns([*one, *other]) >= TURNS))
    }
}

/// Turns that are too long ago count for nothing.
const WITHIN: Duration = Duration::from_secs(600);
/// A, B, A, B.
const TURNS: usize = 4;
/// Of one node.
const KEPT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    /// Notes instances of one node, and counts how often two were heard in turn.
    fn noted(heard: impl IntoIterator<Item = (u64, u8)>) -> usize {
        let (identities, node) = (Identities::default(), NodeId::from_bytes([1; 16]));
        let found = |(seconds, byte): (u64, u8)| identities.heard(node, 1, [byte; 16], at(seconds));
        heard.into_iter().map(found).filter(|found| *found).count()
    }

    #[test]
    fn two_instances_in_turn_are_found_and_again_only_after_two_further_turns() {
        assert_eq!(noted([(10, 1), (11, 2), (12, 1)]), 0);
        assert_eq!(noted([(10, 1), (11, 2), (12, 1), (13, 2)]), 1);
        assert_eq!(noted((0..20).map(|second| (10 + second, (second % 2) as u8))), 6);
        assert_eq!(noted((0..12).map(|second| (10 + second, (second % 3) as u8))), 2, "three places");
        // Another replica's word comes late and is put where it belongs.
        let (own, other) = ((0..3).map(|n| (10 * n + 10, 1)), (0..3).map(|n| (10 * n + 9, 2)));
        assert_eq!(noted(own.zip(other).flat_map(|(own, other)| [own, other])), 1);
        assert_eq!(noted([(10, 1), (11, 1), (11, 2), (12, 2), (40, 1), (639, 2)]), 0, "too long ago");
    }

    #[test]
    fn restarts_late_messages_and_a_machine_put_back_are_no_second_place() {
        assert_eq!(
            noted((1..60).flat_map(|n| [(10 * u64::from(n), n), (10 * u64::from(n) + 5, n)])),
            0,
            "restarts"
        );
        assert_eq!(noted([(10, 1), (20, 2), (21, 1), (22, 3), (23, 3)]), 0, "a late message");
        assert_eq!(
            noted([(10, 1), (20, 2), (30, 1), (40, 1), (50, 3), (60, 3)]),
            0,
            "put back and restarted"
        );
        let (identities, node) = (Identities::default(), NodeId::from_bytes([1; 16]));
        let turns = [(1, 1), (1, 2), (1, 1), (2, 2), (2, 1)];
        for (second, (generation, byte)) in (10..).zip(turns) {
            assert!(
                !identities.heard(node, generation, [byte; 16], at(second)),
                "of one key generation only"
            );
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_forgotten() {
        let (identities, node) = (Identities::default(), NodeId::from_bytes([1; 16]));
        for n in 0..200_u8 {
            identities.heard(node, 1, [n; 16], at(u64::from(n)));
        }
        assert_eq!(identities.lock().trails[&node].heard.len(), KEPT);
        assert_eq!(identities.newest(node), Some([199; 16]));
        identities.heard(NodeId::from_bytes([2; 16]), 1, [1; 16], at(2_000));
        assert_eq!(identities.lock().trails.len(), 1);
        assert!(
            identities.doubted(node, Some(Reason::NodeCloned))
                && !identities.doubted(node, Some(Reason::NodeCloned))
        );
        assert_eq!(identities.doubt(node), Some(Reason::NodeCloned));
        assert!(identities.doubted(node, None) && identities.doubt(node).is_none());
    }
}
