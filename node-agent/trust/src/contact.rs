//! A node's contact with the control plane: `connected`, `degraded`, `isolated`, `recovering`.
//!
//! Owns the transitions, and what is told about them once somebody listens again. Refuses to own the two
//! facts behind them: whether a stream is up, and how fresh the head is.

use std::collections::VecDeque;

use rap_types::{NodeContact, Wall};

use crate::FreshnessState;

/// Contact, by the two facts. A head that is fresh needs no stream to count as contact; without one a
/// stale head is degraded, an expired or absent one isolated; with one the node is catching up.
pub const fn contact_of(stream: bool, freshness: Option<FreshnessState>) -> NodeContact {
    match (stream, freshness) {
        (_, Some(FreshnessState::Fresh)) => NodeContact::Connected,
        (true, _) => NodeContact::Recovering,
        (false, Some(FreshnessState::Degraded)) => NodeContact::Degraded,
        (false, Some(FreshnessState::Expired) | None) => NodeContact::Isolated,
    }
}

/// A change of contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContactChange {
    /// What it became.
    pub contact: NodeContact,
    /// When, by trusted time.
    pub at: Wall,
}

/// The present contact and the changes that nobody was told yet.
#[derive(Debug, Clone)]
pub struct ContactLog {
    present: ContactChange,
    untold: VecDeque<ContactChange>,
}

impl ContactLog {
    /// Starts with the contact of the start.
    pub const fn new(contact: NodeContact, at: Wall) -> Self {
        Self { present: ContactChange { contact, at }, untold: VecDeque::new() }
    }

    /// The present contact, and since when.
    pub const fn present(&self) -> ContactChange {
        self.present
    }

    /// Takes the contact of now in; true if it changed. Of more changes than are kept the oldest go.
    pub fn settle(&mut self, contact: NodeContact, at: Wall) -> bool {
        if contact == self.present.contact {
            return false;
        }
        self.present = ContactChange { contact, at };
        if self.untold.len() == UNTOLD_CAP {
            self.untold.pop_front();
        }
        self.untold.push_back(self.present);
        true
    }

    /// Takes the changes since the last call, oldest first, to tell them.
    pub fn tell(&mut self) -> Vec<ContactChange> {
        self.untold.drain(..).collect()
    }
}

/// Most changes kept while nobody listens.
const UNTOLD_CAP: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use FreshnessState::{Degraded, Expired, Fresh};
    use NodeContact as C;

    #[derive(Clone, Copy, Debug)]
    enum Input {
        Up,
        Down,
        Head(FreshnessState),
    }

    fn step((stream, head): (bool, Option<FreshnessState>), input: Input) -> (bool, Option<FreshnessState>) {
        match input {
            Input::Up => (true, head),
            Input::Down => (false, head),
            Input::Head(state) => (stream, Some(state)),
        }
    }

    /// From the facts on the left, what each input makes of the contact.
    #[test]
    fn the_transition_table() {
        let inputs =
            [Input::Up, Input::Down, Input::Head(Fresh), Input::Head(Degraded), Input::Head(Expired)];
        let table = [
            (
                (false, None),
                C::Isolated,
                [C::Recovering, C::Isolated, C::Connected, C::Degraded, C::Isolated],
            ),
            (
                (true, None),
                C::Recovering,
                [C::Recovering, C::Isolated, C::Connected, C::Recovering, C::Recovering],
            ),
            (
                (false, Some(Fresh)),
                C::Connected,
                [C::Connected, C::Connected, C::Connected, C::Degraded, C::Isolated],
            ),
            (
                (true, Some(Fresh)),
                C::Connected,
                [C::Connected, C::Connected, C::Connected, C::Recovering, C::Recovering],
            ),
            (
                (false, Some(Degraded)),
                C::Degraded,
                [C::Recovering, C::Degraded, C::Connected, C::Degraded, C::Isolated],
            ),
            (
                (true, Some(Degraded)),
                C::Recovering,
                [C::Recovering, C::Degraded, C::Connected, C::Recovering, C::Recovering],
            ),
            (
                (false, Some(Expired)),
                C::Isolated,
                [C::Recovering, C::Isolated, C::Connected, C::Degraded, C::Isolated],
            ),
            (
                (true, Some(Expired)),
                C::Recovering,
                [C::Recovering, C::Isolated, C::Connected, C::Recovering, C::Recovering],
            ),
        ];
        for (facts, contact, expected) in table {
            assert_eq!(contact_of(facts.0, facts.1), contact, "{facts:?}");
            for (input, expected) in inputs.into_iter().zip(expected) {
                let (stream, head) = step(facts, input);
                assert_eq!(contact_of(stream, head), expected, "{facts:?} {input:?}");
            }
        }
    }

    #[test]
    fn changes_wait_until_they_can_be_told_and_are_told_once() {
        let mut log = ContactLog::new(C::Connected, Wall(1));
        assert!(!log.settle(C::Connected, Wall(2)));
        assert!(log.settle(C::Degraded, Wall(3)) && log.settle(C::Isolated, Wall(4)));
        assert!(log.settle(C::Recovering, Wall(5)));
        assert_eq!(log.present(), ContactChange { contact: C::Recovering, at: Wall(5) });
        let told: Vec<_> = log.tell().iter().map(|change| (change.contact, change.at.0)).collect();
        assert_eq!(told, [(C::Degraded, 3), (C::Isolated, 4), (C::Recovering, 5)]);
        assert_eq!(log.tell(), []);
        for at in 0..100 {
            log.settle(if at % 2 == 0 { C::Degraded } else { C::Connected }, Wall(at));
        }
        let kept = log.tell();
        assert_eq!((kept.len(), kept[0].at), (UNTOLD_CAP, Wall(68)));
    }
}
