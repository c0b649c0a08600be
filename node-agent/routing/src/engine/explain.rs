//! A decision with everything that led to it, and what would be decided if relays were down.

use rap_types::{Mono, NodeId};

use super::costs::{Costs, Tables, own_terms, relay_terms};
use super::decide::Verdict;
use super::look::Look;
use super::target::Target;
use super::{Engine, LANE};
use crate::between::UNREACHABLE;
use crate::constraint::Constraint;
use crate::decision::{Decision, Why};
use crate::explanation::{Candidate, Damped, Explanation, Leg, Source, Standing};
use crate::keep::is_worth_it;
use crate::lane::Lane;
use crate::path::{Found, Path};
use crate::relay_set::RelaySet;
use crate::terms::{Terms, unmeasured};
use crate::words::said_terms;

impl Engine {
    /// Explains what holds for a destination, or what would be decided for another lane, or if these relays were down.
    /// Changes nothing. `None`: the destination is not known.
    pub fn explain(
        &self,
        destination: NodeId,
        lane: Lane,
        assumed_down: &[NodeId],
        now: Mono,
    ) -> Option<Explanation> {
        let known = self.targets.get(&destination)?;
        let mut target = known.clone();
        if lane != LANE {
            // No path of this lane stands: nothing is kept.
            (target.primary, target.backup, target.afresh) = (None, None, true);
        }
        let down: Vec<u8> = assumed_down.iter().filter_map(|node| self.relays.position(*node)).collect();
        let costs = Costs::of(lane, &self.own.region, &self.relays, &self.words, now);
        let look = Look::new(self, &costs, &target, RelaySet::of(down.iter().copied()), now);
        let verdict = self.judge(&look, &mut Tables::default());
        let mut candidates: Vec<Candidate> =
            self.paths_of(&look, &verdict).map(|path| self.candidate(&look, &verdict, path)).collect();
        candidates
            .sort_by_key(|candidate| (candidate.cost.is_none(), candidate.cost, candidate.relays.clone()));
        Some(Explanation {
            destination,
            lane,
            decision: self.decision_by(&target, &verdict, now),
            assumed_down: self.relays.nodes(&down),
            candidates,
            damped: self.damped(now),
            next_change: target.bucket.next(now),
        })
    }

    fn decision_by(&self, target: &Target, verdict: &Verdict, now: Mono) -> Decision {
        let mut target = target.clone();
        (target.primary, target.backup) = (verdict.primary, verdict.backup);
        if let Some(why) = verdict.why {
            (target.why, target.since) = (why, now);
        }
        if verdict.primary.is_none() {
            target.why = Why::None;
        }
        self.decision_of(&target)
    }

    /// Every path of one relay, and what was found beside them.
    fn paths_of(&self, look: &Look<'_>, verdict: &Verdict) -> impl Iterator<Item = Path> {
        let single = self.relays.iter().map(|(relay, _)| Path::one(relay));
        let longer = look.longer();
        let mut all: Vec<Path> = single.chain(longer).chain(verdict.primary).chain(verdict.backup).collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter()
    }

    fn candidate(&self, look: &Look<'_>, verdict: &Verdict, path: Path) -> Candidate {
        let constraint = self.first_constraint(look, path);
        let cost = constraint.is_none().then(|| look.cost(path));
        let lane = look.costs.lane;
        let relays = path.relays().iter().filter_map(|relay| self.relays.get(*relay));
        let relay_terms =
            relays.map(|relay| relay_terms(lane, relay, look.now)).fold(Terms::default(), Terms::and);
        let measured = look.target.measurement(path, look.now);
        Candidate {
            relays: self.relays.nodes(path.relays()),
            constraint,
            legs: self.legs(look, path),
            relay_terms,
            measured_us: measured.map(|_| look.measured_terms(path).latency.saturating_mul(2)),
            disputed: look.target.is_disputed(path, look.now),
            cost,
            standing: standing(look, verdict, path, cost),
        }
    }

    fn first_constraint(&self, look: &Look<'_>, path: Path) -> Option<Constraint> {
        let used = RelaySet::of(look.target.used());
        let of_relay = path.relays().iter().find_map(|position| {
            let relay = self.relays.get(*position)?;
            self.constraint(look.target, *position, relay, used, look.assumed)
        });
        let attached = path.relays().last().is_some_and(|last| look.target.homes.contains(last));
        let first_down = path.first().is_some_and(|first| look.costs.own[usize::from(first)] >= UNREACHABLE);
        of_relay
            .or((!attached).then_some(Constraint::NotAttached))
            .or(first_down.then_some(Constraint::LinkDown))
            .or((look.cost(path) >= UNREACHABLE).then_some(Constraint::BetweenDown))
    }

    fn legs(&self, look: &Look<'_>, path: Path) -> Vec<Leg> {
        let lane = look.costs.lane;
        let mut legs = Vec::new();
        if let Some(relay) = path.first().and_then(|first| self.relays.get(first)) {
            let measured = relay.link.estimate.samples() > 0;
            legs.push(Leg {
                to: relay.facts.node,
                source: if measured { Source::Measured } else { Source::Assumed },
                terms: own_terms(lane, &self.own.region, relay, look.now),
            });
        }
        for pair in path.relays().windows(2) {
            let (Some(from), Some(to)) = (self.relays.get(pair[0]), self.relays.get(pair[1])) else {
                continue;
            };
            let other = from.facts.region != to.facts.region;
            let (source, terms) = match self.words.of(pair[0], pair[1], look.now) {
                Some(said) => (Source::Said, said_terms(lane, said, other)),
                None => (Source::Assumed, unmeasured(lane, other)),
            };
            legs.push(Leg { to: to.facts.node, source, terms });
        }
        if let Some(relay) = path.relays().last().and_then(|last| self.relays.get(*last)) {
            let other = relay.facts.region != look.target.facts.region;
            let terms = unmeasured(lane, other);
            legs.push(Leg { to: look.target.facts.node, source: Source::Assumed, terms });
        }
        legs
    }

    fn damped(&self, now: Mono) -> Vec<Damped> {
        let damped = self.relays.iter().map(|(_, relay)| Damped {
            relay: relay.facts.node,
            merit_permille: relay.damping.merit_permille(now),
            avoided: relay.damping.is_suppressed(now),
        });
        damped.filter(|damped| damped.merit_permille > 0).collect()
    }
}

fn standing(look: &Look<'_>, verdict: &Verdict, path: Path, cost: Option<u32>) -> Standing {
    if verdict.primary == Some(path) {
        return Standing::Chosen;
    }
    if verdict.backup == Some(path) {
        return Standing::Backup;
    }
    let (Some(cost), Some(primary)) = (cost, verdict.primary) else { return Standing::Inadmissible };
    let avoided = |path: Path| path.set().shares(look.avoided);
    let present = look.cost(primary);
    if let Some(reason) = look.target.refusal(path, look.now) {
        Standing::Refused(reason)
    } else if avoided(path) && !avoided(primary) {
        Standing::Avoided
    } else if cost >= present {
        Standing::Costlier(cost - present)
    } else if !is_worth_it(look.costs.lane, present, cost) {
        Standing::WithinMargin(present - cost)
    } else if !is_worth_it(look.costs.lane, present, look.counted(Found { cost, path, poor: false })) {
        Standing::JustLeft
    } else {
        Standing::Guarded
    }
}
