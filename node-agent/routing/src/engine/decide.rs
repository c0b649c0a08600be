//! The decision for each destination that is due.

use std::ops::Bound;
use std::time::Duration;

use rap_types::{Mono, NodeId};

use super::costs::{Costs, Tables};
use super::look::Look;
use super::{Engine, LANE};
use crate::decision::Why;
use crate::keep::is_worth_it;
use crate::path::{Found, Path};
use crate::relay_set::RelaySet;

/// What is to become of a destination.
pub(super) struct Verdict {
    pub(super) primary: Option<Path>,
    pub(super) backup: Option<Path>,
    /// `None`: the primary stays.
    pub(super) why: Option<Why>,
    /// A better path waits for a guard.
    pub(super) waits: bool,
}

impl Engine {
    /// Decides for every destination that is due, and for some of those whose costs changed. Destinations for which
    /// something else holds now.
    pub fn decide(&mut self, now: Mono) -> Vec<NodeId> {
        self.refresh_costs(now);
        (self.decided, self.urgent) = (now, false);
        let mut tables = std::mem::take(&mut self.tables);
        let mut changed = Vec::new();
        let mut nodes: Vec<NodeId> = std::mem::take(&mut self.due).into_iter().collect();
        nodes.sort_unstable_by_key(|node| (self.turn(*node), *node));
        if nodes.is_empty() {
            // What does not wait comes alone.
            nodes = self.next_of_review();
        }
        for node in nodes {
            if self.decide_one(node, &mut tables, now) {
                changed.push(node);
            }
        }
        self.tables = tables;
        changed
    }

    fn decide_one(&mut self, node: NodeId, tables: &mut Tables, now: Mono) -> bool {
        let Some(target) = self.targets.get(&node) else { return false };
        let look = Look::new(self, &self.costs, target, RelaySet::default(), now);
        let verdict = self.judge(&look, tables);
        self.carry_out(node, verdict, now)
    }

    /// What is best for a destination, and whether it is worth a change.
    pub(super) fn judge(&self, look: &Look<'_>, tables: &mut Tables) -> Verdict {
        let target = look.target;
        let best = look.optimum(tables);
        let present = target.primary.filter(|path| look.holds(*path));
        let lane = look.costs.lane;
        let (primary, why, waits) = match (present, best) {
            (_, None) => (None, (target.primary.is_some() || target.lost).then_some(Why::None), false),
            (Some(present), Some(best)) if present == best.path => (Some(present), None, false),
            // One that does not work is as good as another.
            (None, Some(best))
                if best.poor && !target.afresh && target.primary.is_some_and(|path| look.permits(path)) =>
            {
                (target.primary, None, false)
            }
            (None, Some(best)) if target.afresh || target.primary.is_none() && !target.lost => {
                (Some(best.path), Some(Why::First), false)
            }
            (None, Some(best)) => (Some(self.after_failure(look, best)), Some(Why::Failed), false),
            (Some(_), Some(best)) if target.afresh => (Some(best.path), Some(Why::First), false),
            (Some(present), Some(best)) => {
                let avoided = |path: Path| path.set().shares(look.avoided);
                if avoided(present) && !avoided(best.path) {
                    (Some(best.path), Some(Why::Avoided), false)
                } else if !is_worth_it(lane, look.cost(present), look.counted(best)) {
                    (Some(present), None, false)
                } else if target.bucket.has(look.now) && self.herd.admits(self.targets.len(), look.now) {
                    (Some(best.path), Some(Why::Better), false)
                } else {
                    (Some(present), None, true)
                }
            }
        };
        Verdict { primary, backup: primary.and_then(|primary| self.backup_of(look, primary)), why, waits }
    }

    /// The backup carries the traffic already: it stays unless another path is clearly better.
    fn after_failure(&self, look: &Look<'_>, best: Found) -> Path {
        let backup = look.target.backup.filter(|path| look.holds(*path));
        match backup {
            Some(backup) if !is_worth_it(look.costs.lane, look.cost(backup), best.cost) => backup,
            _ => best.path,
        }
    }

    fn backup_of(&self, look: &Look<'_>, primary: Path) -> Option<Path> {
        let best = look.backup(primary)?;
        let apart = |path: Path| !path.set().shares(primary.set());
        let good = |path: &Path| {
            (look.holds(*path) || best.poor && look.permits(*path))
                && (apart(*path) || !apart(best.path) && path.first() != primary.first())
        };
        let avoided = |path: Path| path.set().shares(look.avoided);
        let present = look
            .target
            .backup
            .filter(|path| !look.target.afresh && good(path))
            .filter(|path| !avoided(*path) || avoided(best.path));
        match present {
            Some(present) if !is_worth_it(look.costs.lane, look.cost(present), best.cost) => Some(present),
            _ => Some(best.path),
        }
    }

    fn carry_out(&mut self, node: NodeId, verdict: Verdict, now: Mono) -> bool {
        let Some(target) = self.targets.get_mut(&node) else { return false };
        if verdict.waits {
            self.due.insert(node);
        }
        target.afresh = false;
        target.lost = false;
        let cut = std::mem::take(&mut target.cut);
        if (verdict.primary, verdict.backup) == (target.primary, target.backup) && !cut {
            return false;
        }
        for relay in target.used() {
            self.users[usize::from(relay)].remove(&node);
        }
        if let Some(why) = verdict.why {
            if why == Why::Better
                && let Some(before) = target.primary
            {
                target.bucket.take(now);
                target.left = Some((before.set(), now));
                self.herd.moved(now);
                if let Some(first) = before.first().and_then(|first| self.relays.get_mut(first)) {
                    first.damping.left(now);
                }
            }
            (target.since, target.why) = (now, why);
        }
        (target.primary, target.backup) = (verdict.primary, verdict.backup);
        self.generation += 1;
        target.generation = self.generation;
        for relay in target.used() {
            self.users[usize::from(relay)].insert(node);
        }
        true
    }

    /// Costs fade and rise with time, and with what is measured.
    fn refresh_costs(&mut self, now: Mono) {
        if self.costed.is_some_and(|at| now.since(at) < COSTS_HOLD) {
            return;
        }
        let costs = Costs::of(LANE, &self.own.region, &self.relays, &self.words, now);
        if costs != self.costs {
            self.tables.follow(&self.costs, &costs);
            self.costs = costs;
            self.review = self.review.or(Some(NodeId::ZERO));
        }
        self.costed = Some(now);
    }

    /// The next destinations that are looked at because a cost changed.
    fn next_of_review(&mut self) -> Vec<NodeId> {
        let Some(next) = self.review else { return Vec::new() };
        let rest = self.targets.range((Bound::Included(next), Bound::Unbounded));
        let mut nodes: Vec<NodeId> = rest.map(|(node, _)| *node).take(AT_ONCE + 1).collect();
        self.review = if nodes.len() > AT_ONCE { nodes.pop() } else { None };
        nodes.sort_unstable_by_key(|node| (self.turn(*node), *node));
        nodes
    }

    /// Whose turn it is when many want to move and few may: another order at each generation.
    fn turn(&self, node: NodeId) -> u64 {
        let half = |at: usize| {
            node.as_bytes()[at..].iter().take(8).fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte))
        };
        let mut mixed = self.seed ^ half(0).rotate_left(32) ^ half(8) ^ self.generation;
        for _ in 0..2 {
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        }
        mixed
    }
}

/// How long costs are good for.
const COSTS_HOLD: Duration = Duration::from_secs(1);
/// Destinations of a review that are looked at in one go.
const AT_ONCE: usize = 1024;
