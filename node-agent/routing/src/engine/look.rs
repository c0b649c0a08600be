//! One destination at one moment: what is admissible, what it costs, and what is best.

use rap_types::Mono;

use super::Engine;
use super::costs::{Costs, Tables, relay_terms};
use super::relays::Relay;
use super::target::Target;
use crate::between::{UNREACHABLE, through};
use crate::constraint::Constraint;
use crate::keep::penalised;
use crate::path::{Found, Path};
use crate::relay_set::RelaySet;
use crate::search::Field;
use crate::terms::{self, Terms};

/// A destination at one moment.
pub(super) struct Look<'a> {
    pub(super) engine: &'a Engine,
    pub(super) costs: &'a Costs,
    pub(super) target: &'a Target,
    pub(super) now: Mono,
    /// Relays that paths may lead through.
    pub(super) set: RelaySet,
    /// Relays that are assumed to be down.
    pub(super) assumed: RelaySet,
    /// Relays of `set` that are chosen last.
    pub(super) avoided: RelaySet,
    last: Vec<(u8, u32)>,
    /// Paths that the sums say nothing about: refused ones, and measured ones.
    apart: Vec<Path>,
    refused: usize,
}

impl<'a> Look<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        costs: &'a Costs,
        target: &'a Target,
        assumed: RelaySet,
        now: Mono,
    ) -> Self {
        let (mut set, mut avoided) = (RelaySet::default(), RelaySet::default());
        let used = RelaySet::of(target.used());
        for (position, relay) in engine.relays.iter() {
            if engine.constraint(target, position, relay, used, assumed).is_some() {
                continue;
            }
            set = set.with(position);
            if relay.facts.draining || relay.damping.is_suppressed(now) {
                avoided = avoided.with(position);
            }
        }
        let cost = |home: &u8| {
            let region = engine.relays.get(*home).map(|relay| &relay.facts.region);
            let other = region.is_some_and(|region| *region != target.facts.region);
            (*home, costs.unknown[usize::from(other)])
        };
        let mut apart: Vec<Path> = target.refused(now).collect();
        let refused = apart.len();
        apart.extend(target.measurements(now).map(|(path, _)| path));
        let last = target.homes.iter().map(cost).collect();
        Self { engine, costs, target, now, set, assumed, avoided, last, apart, refused }
    }

    /// What a path costs, in microseconds, its first link down or not; [`UNREACHABLE`] if it is not admissible.
    pub(super) fn cost(&self, path: Path) -> u32 {
        let measured = self.target.measurement(path, self.now);
        let sum = self.sum(path, &self.costs.tried);
        match measured {
            Some(_) if sum < UNREACHABLE => self.measured_terms(path).total(),
            _ => sum.min(UNREACHABLE),
        }
    }

    /// The terms of a path that was measured as a whole.
    pub(super) fn measured_terms(&self, path: Path) -> Terms {
        let Some(estimate) = self.target.measurement(path, self.now) else { return Terms::default() };
        let relays = path.relays().iter().filter_map(|relay| self.engine.relays.get(*relay));
        let relays = relays.map(|relay| relay_terms(self.costs.lane, relay, self.now));
        let rtt = estimate.measured_us(self.now);
        let (deviation, loss) = (estimate.deviation_us(), estimate.loss(self.now));
        let whole = terms::link(self.costs.lane, rtt, deviation, loss, 1.0, false);
        relays.fold(whole, Terms::and)
    }

    fn sum(&self, path: Path, own: &[u32]) -> u32 {
        let relays = path.relays();
        let (Some(first), Some(last)) = (relays.first(), relays.last()) else { return UNREACHABLE };
        let last = self.last.iter().find(|(home, _)| home == last).map(|(_, cost)| *cost);
        let Some(last) = last.filter(|_| relays.iter().all(|relay| self.set.has(*relay))) else {
            return UNREACHABLE;
        };
        let links = relays.windows(2).map(|pair| self.costs.edges.get(pair[0], pair[1]));
        let relays = relays.iter().map(|relay| self.costs.relay[usize::from(*relay)]);
        let parts = [own[usize::from(*first)], last].into_iter().chain(links).chain(relays);
        parts.fold(0, |sum: u32, part| sum.saturating_add(part)).min(UNREACHABLE)
    }

    /// Whether a path may be used, its first link is not down, and it was not refused lately.
    pub(super) fn holds(&self, path: Path) -> bool {
        self.sum(path, &self.costs.own) < UNREACHABLE && self.target.refusal(path, self.now).is_none()
    }

    /// Whether a path may be used.
    pub(super) fn permits(&self, path: Path) -> bool {
        self.sum(path, &self.costs.tried) < UNREACHABLE
    }

    /// The best path.
    pub(super) fn optimum(&self, tables: &mut Tables) -> Option<Found> {
        self.staged(self.set, None, |field, set| match self.engine.relays.position(self.target.facts.node) {
            // A relay is no part of paths to itself: its set is its own.
            Some(_) => field.best_without_table(set),
            None => field.best(set, tables.of(self.costs, set, self.now)),
        })
    }

    /// The best path without the relays of `primary`, else one with another first relay.
    pub(super) fn backup(&self, primary: Path) -> Option<Found> {
        let search = |set, not_first| self.staged(set, not_first, |field, set| field.best_without_table(set));
        let other_first = || search(self.set, Some(primary.first()?));
        search(self.set.minus(primary.set()), None).or_else(other_first)
    }

    /// Relays that are avoided come after the others, then paths that were refused, then those whose first link is down:
    /// none is left out if nothing else is there. `not_first`: no path begins with it.
    fn staged(
        &self,
        set: RelaySet,
        not_first: Option<u8>,
        mut search: impl FnMut(&Field<'_>, RelaySet) -> Option<Found>,
    ) -> Option<Found> {
        let (own, tried) = (&self.costs.own, &self.costs.tried);
        let begins = |first: &u8| not_first != Some(*first);
        let near: Vec<u8> = self.costs.near.iter().copied().filter(begins).collect();
        let stages = [
            (set.minus(self.avoided), 0, own),
            (set, 0, own),
            (set, self.refused, own),
            (set, self.refused, tried),
        ];
        (0..).zip(stages).find_map(|(stage, (set, refused, own))| {
            let skip: Vec<Path> =
                self.apart[refused..].iter().copied().chain(not_first.map(Path::one)).collect();
            let field = Field {
                own,
                near: &near,
                last: &self.last,
                relay: &self.costs.relay,
                edges: &self.costs.edges,
                direct: UNREACHABLE,
                skip: &skip,
            };
            let by_sum = search(&field, set);
            let counts = |path: &Path| {
                path.relays().iter().all(|relay| set.has(*relay))
                    && path.first().as_ref().is_none_or(begins)
                    && self.sum(*path, own) < UNREACHABLE
                    && !self.apart[refused..self.refused].contains(path)
            };
            let measured = self.apart[self.refused..].iter().copied().filter(counts);
            let measured = measured.map(|path| Found { cost: self.cost(path), path, poor: false });
            let best = measured.chain(by_sum).min_by_key(|found| (found.cost, found.path.relays().len()))?;
            Some(Found { poor: stage > 1, ..best })
        })
    }

    /// Paths of several relays, the best one between each first and last one.
    pub(super) fn longer(&self) -> impl Iterator<Item = Path> {
        let through = through(&self.costs.relay, self.set);
        let firsts = self.costs.near.iter().copied().filter(|first| self.set.has(*first));
        firsts.flat_map(move |first| {
            let through = through.clone();
            let lasts = self.last.iter().map(|(last, _)| *last);
            lasts.filter(move |last| *last != first && self.set.has(*last)).filter_map(move |last| {
                let (low, high) = (first.min(last), first.max(last));
                let (cost, middle) = self.costs.edges.cheapest(low, high, &through);
                (cost < UNREACHABLE).then(|| Path::of(first, middle, last))
            })
        })
    }

    /// What a path counts against the one in use: more if its relays were left a short while ago.
    pub(super) fn counted(&self, found: Found) -> u32 {
        let left = self.target.left.filter(|(left, _)| left.shares(found.path.set()));
        left.map_or(found.cost, |(_, at)| penalised(found.cost, self.now.since(at)))
    }
}

impl Engine {
    /// The first constraint that keeps a relay out of paths to a destination. `used`: relays of the paths that it has
    /// now, which a relay that takes no new ones still carries.
    pub(super) fn constraint(
        &self,
        target: &Target,
        position: u8,
        relay: &Relay,
        used: RelaySet,
        assumed: RelaySet,
    ) -> Option<Constraint> {
        let facts = &relay.facts;
        let carries = facts.organization.is_none()
            || (facts.organization == self.own.organization
                && facts.organization == target.facts.organization);
        if facts.node == target.facts.node || facts.node == self.own.node {
            Some(Constraint::End)
        } else if !carries {
            Some(Constraint::Organization)
        } else if facts.revoked {
            Some(Constraint::Revoked)
        } else if facts.draining && !used.has(position) {
            Some(Constraint::Draining)
        } else if assumed.has(position) {
            Some(Constraint::Assumed)
        } else {
            None
        }
    }
}
