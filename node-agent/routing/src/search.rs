//! The cheapest path to one destination.
//!
//! Owns the order of candidates: of equal costs the shorter path wins, then the earlier home of the destination.

use crate::between::{Between, Edges, UNREACHABLE, through};
use crate::path::{Found, Path};
use crate::relay_set::RelaySet;

/// What a search looks at. All costs are in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    /// Of the links from this node, by relay.
    pub(crate) own: &'a [u32],
    /// Relays whose link with this node is up: the first ones of paths with several relays. The search is fastest if the
    /// cheapest ones come first.
    pub(crate) near: &'a [u8],
    /// Of the links to the destination, from its first home on.
    pub(crate) last: &'a [(u8, u32)],
    /// Of each relay.
    pub(crate) relay: &'a [u32],
    pub(crate) edges: &'a Edges,
    /// Of the direct link with the destination.
    pub(crate) direct: u32,
    /// Paths that are left out.
    pub(crate) skip: &'a [Path],
}

impl Field<'_> {
    /// The cheapest path through relays of a set, by its table.
    pub(crate) fn best(&self, set: RelaySet, table: &Between) -> Option<Found> {
        self.search(set, |one, other| table.get(one, other))
    }

    /// The same without a table.
    pub(crate) fn best_without_table(&self, set: RelaySet) -> Option<Found> {
        let through = through(self.relay, set);
        self.search(set, |one, other| self.edges.cheapest(one.min(other), one.max(other), &through))
    }

    fn search(&self, set: RelaySet, between: impl Fn(u8, u8) -> (u32, Option<u8>)) -> Option<Found> {
        let mut best =
            Best { found: Found { cost: UNREACHABLE, path: Path::direct(), poor: false }, skip: self.skip };
        best.take(self.direct, Path::direct);
        let last = || self.last.iter().filter(|(relay, _)| set.has(*relay)).map(|(b, cost)| (*b, *cost));
        for (b, cost) in last() {
            best.take(self.own[usize::from(b)] + self.relay[usize::from(b)] + cost, || Path::one(b));
        }
        for (b, cost) in last() {
            let rest = self.relay[usize::from(b)] + cost;
            let least = rest + self.edges.least_to(b);
            for a in self.near.iter().copied().filter(|a| set.has(*a) && *a != b) {
                let begin = self.own[usize::from(a)] + self.relay[usize::from(a)];
                if begin + least < best.found.cost {
                    let (cost, middle) = between(a, b);
                    best.take(begin + cost + rest, || Path::of(a, middle, b));
                }
            }
        }
        (best.found.cost < UNREACHABLE).then_some(best.found)
    }
}

struct Best<'a> {
    found: Found,
    skip: &'a [Path],
}

impl Best<'_> {
    fn take(&mut self, cost: u32, path: impl FnOnce() -> Path) {
        if cost < self.found.cost {
            let path = path();
            if !self.skip.contains(&path) {
                self.found = Found { cost, path, poor: false };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// With both ends these are twelve nodes.
    const COUNT: u8 = 10;

    fn any_cost() -> impl Strategy<Value = u32> {
        prop_oneof![4 => 1..300_000u32, 1 => Just(UNREACHABLE)]
    }

    /// Every path of at most three relays, and its cost.
    fn all(field: &Field<'_>, set: RelaySet) -> Vec<(u32, Path)> {
        let mut all = vec![(field.direct, Path::direct())];
        let relay = |at: u8| field.relay[usize::from(at)];
        let last =
            |at: u8| field.last.iter().find(|(home, _)| *home == at).map_or(UNREACHABLE, |(_, cost)| *cost);
        let own = |at: u8| field.own[usize::from(at)];
        let relays = || (0..COUNT).filter(|at| set.has(*at));
        for a in relays() {
            all.push((own(a) + relay(a) + last(a), Path::one(a)));
            for b in relays().filter(|b| *b != a && field.near.contains(&a)) {
                let ends = own(a) + relay(a) + relay(b) + last(b);
                all.push((ends.saturating_add(field.edges.get(a, b)), Path::of(a, None, b)));
                for x in relays().filter(|x| *x != a && *x != b) {
                    let middle = field.edges.get(a, x) + relay(x) + field.edges.get(x, b);
                    all.push((ends.saturating_add(middle), Path::of(a, Some(x), b)));
                }
            }
        }
        all.retain(|(cost, path)| *cost < UNREACHABLE && !field.skip.contains(path));
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

        /// Invariant 5: what is found costs as little as the best of all paths of at most three relays, with a table and
        /// without one, and it is one of them.
        #[test]
        fn nothing_cheaper_exists(
            own in proptest::collection::vec(any_cost(), usize::from(COUNT)),
            relay in proptest::collection::vec(1..20_000u32, usize::from(COUNT)),
            links in proptest::collection::vec(any_cost(), usize::from(COUNT * COUNT)),
            last in proptest::collection::btree_map(0..COUNT, any_cost(), 0..5),
            members in proptest::collection::btree_set(0..COUNT, 0..usize::from(COUNT)),
            direct in any_cost(),
        ) {
            let mut edges = Edges::new(usize::from(COUNT));
            for (one, other) in (0..COUNT).flat_map(|one| (0..one).map(move |other| (one, other))) {
                edges.set(one, other, links[usize::from(one * COUNT + other)]);
            }
            let near: Vec<u8> = (0..COUNT).filter(|at| own[usize::from(*at)] < UNREACHABLE).collect();
            let last: Vec<(u8, u32)> = last.into_iter().collect();
            let set = RelaySet::of(members);
            let field = Field { own: &own, near: &near, last: &last, relay: &relay, edges: &edges, direct, skip: &[] };
            let all = all(&field, set);
            let least = all.iter().map(|(cost, _)| *cost).min();
            let table = Between::of(&edges, &through(&relay, set));
            for found in [field.best(set, &table), field.best_without_table(set)] {
                prop_assert_eq!(found.map(|found| found.cost), least);
                prop_assert!(found.is_none_or(|found| all.contains(&(found.cost, found.path))));
            }
            // A path that is left out is not found.
            let skip: Vec<Path> = field.best(set, &table).map(|found| found.path).into_iter().collect();
            let without = Field { skip: &skip, ..field };
            prop_assert!(without.best(set, &table).is_none_or(|found| !skip.contains(&found.path)));
        }
    }
}
