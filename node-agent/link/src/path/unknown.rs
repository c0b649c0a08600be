//! Labels that belong to nothing: who was told of which lately.
//!
//! Owns the rule of one fault per label and pause, at a cost that does not depend on how many labels a neighbour makes up.

use std::collections::BTreeSet;

use rap_types::{Mono, NodeId};

use crate::path::entry::FAULT_PAUSE;

/// Faults of the latest two pauses.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnknownLabels {
    since: Mono,
    told: BTreeSet<(NodeId, u64)>,
    before: BTreeSet<(NodeId, u64)>,
}

impl UnknownLabels {
    /// True if the neighbour is to be told that this label leads nowhere. At most [`PER_NEIGHBOUR`] in a pause.
    pub(crate) fn may_tell(&mut self, neighbour: NodeId, label: u64, now: Mono) -> bool {
        let passed = now.since(self.since);
        if passed >= FAULT_PAUSE {
            self.before = std::mem::take(&mut self.told);
            self.since = now;
            if passed >= FAULT_PAUSE * 2 {
                self.before.clear();
            }
        }
        let key = (neighbour, label);
        if self.told.contains(&key) || self.before.contains(&key) || self.told.len() >= IN_ALL {
            return false;
        }
        let own = self.told.range((neighbour, 0)..=(neighbour, u64::MAX));
        own.take(PER_NEIGHBOUR).count() < PER_NEIGHBOUR && self.told.insert(key)
    }
}

const PER_NEIGHBOUR: usize = 64;
const IN_ALL: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn no_label_is_told_twice_within_a_pause_wherever_a_window_ends() {
        for start in [0, 30, 99, 100, 150] {
            let mut unknown = UnknownLabels::default();
            let neighbour = NodeId::from_bytes([1; 16]);
            assert!(unknown.may_tell(neighbour, 1, Mono(0)), "opens the first window");
            let first = Mono(0).plus(MILLISECOND * start);
            assert!(unknown.may_tell(neighbour, 2, first));
            for later in 0..100 {
                assert!(
                    !unknown.may_tell(neighbour, 2, first.plus(MILLISECOND * later)),
                    "{start} + {later}"
                );
            }
            assert!(unknown.may_tell(neighbour, 2, first.plus(FAULT_PAUSE * 2)), "{start}");
        }
    }

    #[test]
    fn who_makes_labels_up_is_told_of_few_and_others_are_told_of_theirs() {
        let mut unknown = UnknownLabels::default();
        let (foe, other) = (NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        let told = (0..10_000).filter(|label| unknown.may_tell(foe, *label, Mono(5))).count();
        assert_eq!(told, PER_NEIGHBOUR);
        assert!(unknown.may_tell(other, 7, Mono(6)));
    }
}
