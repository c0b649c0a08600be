//! The costs of a lane at one moment, as the search takes them.

use rap_types::Mono;

use super::relays::{Relay, Relays};
use crate::between::{Between, Edges, UNREACHABLE, through};
use crate::lane::Lane;
use crate::relay_set::RelaySet;
use crate::terms::{self, Terms};
use crate::words::Words;

/// Costs by the position of a relay, in microseconds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Costs {
    pub(super) lane: Lane,
    /// Of the link with each relay, if it is not down.
    pub(super) own: Vec<u32>,
    /// The same whether it is down or not: somebody has to try.
    pub(super) tried: Vec<u32>,
    /// Relays whose links are up, the cheapest first.
    pub(super) near: Vec<u8>,
    pub(super) relay: Vec<u32>,
    pub(super) edges: Edges,
    /// Of a link of which nothing is known, within a region and between two.
    pub(super) unknown: [u32; 2],
}

impl Costs {
    pub(super) fn of(lane: Lane, region: &str, relays: &Relays, words: &Words, now: Mono) -> Self {
        let region_of = |at| relays.get(at).map(|relay| &relay.facts.region);
        let other_region = |one, other| region_of(one) != region_of(other);
        let unknown = [false, true].map(|other| terms::unmeasured(lane, other).total());
        let mut costs = Self {
            lane,
            own: vec![UNREACHABLE; relays.len()],
            tried: vec![UNREACHABLE; relays.len()],
            near: Vec::new(),
            relay: vec![UNREACHABLE; relays.len()],
            edges: words.edges(lane, relays.len(), unknown, other_region, now),
            unknown,
        };
        for (position, relay) in relays.iter() {
            let at = usize::from(position);
            costs.relay[at] = relay_terms(lane, relay, now).total();
            costs.tried[at] = own_terms(lane, region, relay, now).total();
            if relay.link.is_down(relay.facts.kept, now) {
                continue;
            }
            costs.own[at] = costs.tried[at];
            if relay.link.is_up() {
                costs.near.push(position);
            }
        }
        costs.near.sort_by_key(|relay| costs.own[usize::from(*relay)]);
        costs.near.truncate(NEAR);
        costs
    }
}

pub(super) fn relay_terms(lane: Lane, relay: &Relay, now: Mono) -> Terms {
    terms::relay(lane, 0, relay.damping.merit(now))
}

pub(super) fn own_terms(lane: Lane, region: &str, relay: &Relay, now: Mono) -> Terms {
    let up = relay.link.share_up(now);
    terms::own_link(lane, &relay.link.estimate, up, relay.facts.region != region, now)
}

/// Tables of costs between relays, by the set of relays that may be passed.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables(Vec<Table>);

#[derive(Debug, Clone)]
struct Table {
    lane: Lane,
    set: RelaySet,
    used: Mono,
    between: Between,
}

impl Tables {
    /// Other costs hold. A link between relays that changed changes a row and a column of each table.
    pub(super) fn follow(&mut self, before: &Costs, costs: &Costs) {
        let same = before.relay == costs.relay && before.edges.count() == costs.edges.count();
        let changed = if same { costs.edges.changes_of(&before.edges) } else { Vec::new() };
        if !same || changed.len() > FEW {
            return self.0.clear();
        }
        for table in &mut self.0 {
            let through = through(&costs.relay, table.set);
            for (one, other) in &changed {
                table.between.renew(&costs.edges, &through, *one, *other);
            }
        }
    }

    pub(super) fn of(&mut self, costs: &Costs, set: RelaySet, now: Mono) -> &Between {
        let known = self.0.iter().position(|table| table.lane == costs.lane && table.set == set);
        let at = known.unwrap_or_else(|| {
            self.0.retain(|table| now.since(table.used).as_secs() < UNUSED_S);
            if self.0.len() >= TABLES {
                let oldest = (0..self.0.len()).min_by_key(|at| self.0[*at].used);
                oldest.map(|oldest| self.0.swap_remove(oldest));
            }
            let between = Between::of(&costs.edges, &through(&costs.relay, set));
            self.0.push(Table { lane: costs.lane, set, used: now, between });
            self.0.len() - 1
        });
        self.0[at].used = now;
        &self.0[at].between
    }
}

/// Most relays with which a path of several ones begins.
const NEAR: usize = 20;
/// Most links for which rows of a table are made anew and not the table.
const FEW: usize = 8;
const TABLES: usize = 32;
const UNUSED_S: u64 = 600;
