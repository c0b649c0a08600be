//! What it costs to get from one relay to another, directly or through a third one.
//!
//! Owns one min-plus product. It looks at one relay in between and no more, so that no path has more than three.

use serde::{Deserialize, Serialize};

use crate::relay_set::RelaySet;

/// A cost that no path has. A sum of seven of them fits.
pub(crate) const UNREACHABLE: u32 = 1 << 29;

/// Costs of the links between relays, equal in both directions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Edges {
    count: usize,
    costs: Vec<u32>,
}

impl Edges {
    pub(crate) fn new(count: usize) -> Self {
        Self { count, costs: vec![UNREACHABLE; count * count] }
    }

    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn set(&mut self, one: u8, other: u8, cost: u32) {
        let (one, other) = (usize::from(one), usize::from(other));
        self.costs[one * self.count + other] = cost;
        self.costs[other * self.count + one] = cost;
    }

    pub(crate) fn get(&self, one: u8, other: u8) -> u32 {
        self.costs[usize::from(one) * self.count + usize::from(other)]
    }

    /// The links whose costs are others than before.
    pub(crate) fn changes_of(&self, before: &Self) -> Vec<(u8, u8)> {
        let all = relays(self.count).flat_map(|one| {
            (one.saturating_add(1)..=u8::MAX)
                .map(move |other| (one, other))
                .take(self.count - 1 - usize::from(one))
        });
        all.filter(|(one, other)| self.get(*one, *other) != before.get(*one, *other)).collect()
    }

    fn row(&self, relay: usize) -> &[u32] {
        &self.costs[relay * self.count..(relay + 1) * self.count]
    }

    /// No way to a relay costs less than this.
    pub(crate) fn least_to(&self, relay: u8) -> u32 {
        self.row(usize::from(relay)).iter().copied().min().unwrap_or(UNREACHABLE)
    }

    /// The cheapest way from `one` to `other`, and through whom. `through` has the cost of each relay in between,
    /// [`UNREACHABLE`] for those that may not be.
    pub(crate) fn cheapest(&self, one: u8, other: u8, through: &[u32]) -> (u32, Option<u8>) {
        let (from, to) = (self.row(usize::from(one)), self.row(usize::from(other)));
        let sums = || from.iter().zip(through).zip(to).map(|((a, x), b)| a + x + b);
        // Signed, as a sum of three fits: processors without a least of unsigned numbers have one of these.
        let least = sums().fold(i32::MAX, |least, sum| least.min(sum.cast_signed())).cast_unsigned();
        let straight = self.get(one, other);
        // A tie goes to the shorter path.
        if straight <= least {
            return (straight, None);
        }
        let middle = sums().position(|sum| sum == least).and_then(|at| u8::try_from(at).ok());
        (least, middle)
    }
}

/// The cheapest way between every two relays of a set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Between {
    count: usize,
    cheapest: Vec<(u32, Option<u8>)>,
}

impl Between {
    pub(crate) fn of(edges: &Edges, through: &[u32]) -> Self {
        let count = edges.count();
        let mut table = Self { count, cheapest: vec![(UNREACHABLE, None); count * count] };
        for one in relays(count) {
            table.renew_row(edges, through, one, one);
        }
        table
    }

    /// The cost of the link between these two changed.
    pub(crate) fn renew(&mut self, edges: &Edges, through: &[u32], one: u8, other: u8) {
        self.renew_row(edges, through, one, 0);
        self.renew_row(edges, through, other, 0);
    }

    pub(crate) fn get(&self, one: u8, other: u8) -> (u32, Option<u8>) {
        self.cheapest[usize::from(one) * self.count + usize::from(other)]
    }

    /// The row and the column of a relay, towards those from `first` on.
    fn renew_row(&mut self, edges: &Edges, through: &[u32], relay: u8, first: u8) {
        for other in relays(self.count).filter(|other| *other >= first && *other != relay) {
            // One order for both directions: they name the same relay in between.
            let (low, high) = (relay.min(other), relay.max(other));
            let found = edges.cheapest(low, high, through);
            let (low, high) = (usize::from(low), usize::from(high));
            self.cheapest[low * self.count + high] = found;
            self.cheapest[high * self.count + low] = found;
        }
    }
}

/// The cost of each relay in between; those that are not in the set cannot be.
pub(crate) fn through(relays: &[u32], set: RelaySet) -> Vec<u32> {
    (0..).zip(relays).map(|(relay, cost)| if set.has(relay) { *cost } else { UNREACHABLE }).collect()
}

fn relays(count: usize) -> impl Iterator<Item = u8> {
    (0..=u8::MAX).take(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COUNT: u8 = 12;

    fn any_edit() -> impl Strategy<Value = (u8, u8, u32)> {
        let cost = prop_oneof![9 => 1..1_000_000u32, 1 => Just(UNREACHABLE)];
        (0..COUNT, 1..COUNT, cost).prop_map(|(one, step, cost)| (one, (one + step) % COUNT, cost))
    }

    proptest! {
        /// Invariant 4: what was made anew row by row is what is made anew as a whole.
        #[test]
        fn after_many_changes_of_links_the_table_is_that_of_the_links(
            relays in proptest::collection::vec(0..100_000u32, usize::from(COUNT)),
            left_out in 0..COUNT,
            edits in proptest::collection::vec(any_edit(), 1..200),
        ) {
            let set = RelaySet::of((0..COUNT).filter(|relay| *relay != left_out));
            let through = through(&relays, set);
            let mut edges = Edges::new(usize::from(COUNT));
            let mut table = Between::of(&edges, &through);
            for (one, other, cost) in edits {
                edges.set(one, other, cost);
                table.renew(&edges, &through, one, other);
                prop_assert_eq!(&table, &Between::of(&edges, &through));
            }
        }
    }

    #[test]
    fn the_links_that_changed_are_found() {
        let mut edges = Edges::new(5);
        let before = edges.clone();
        edges.set(3, 1, 7);
        edges.set(4, 0, 9);
        assert_eq!(edges.changes_of(&before), [(0, 4), (1, 3)]);
        assert_eq!(before.changes_of(&before), []);
    }
}
