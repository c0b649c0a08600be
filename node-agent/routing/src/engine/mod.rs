//! The decisions of one node.
//!
//! Owns what the node knows of relays and destinations, and when a destination is decided anew.

mod costs;
mod decide;
mod dispute;
mod explain;
mod look;
mod relays;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rap_types::{Mono, NodeId, Reason};

use self::costs::{Costs, Tables};
use self::relays::Relays;
use self::target::Target;
use crate::damping::FAILED;
use crate::decision::Decision;
use crate::input::{Destination, Input, Own, Probes, RelayFacts, Said};
use crate::keep::Herd;
use crate::lane::Lane;
use crate::path::Path;
use crate::relay_set::RelaySet;
use crate::words::Words;

/// The engine of one node. It decides for lane C, the only one that paths are installed for.
#[derive(Debug, Clone)]
pub struct Engine {
    seed: u64,
    own: Own,
    relays: Relays,
    targets: BTreeMap<NodeId, Target>,
    /// Destinations whose paths lead through a relay, by its position.
    users: Vec<BTreeSet<NodeId>>,
    words: Words,
    due: BTreeSet<NodeId>,
    /// Destinations that are looked at again because a cost changed, and from which one on.
    review: Option<NodeId>,
    costs: Costs,
    costed: Option<Mono>,
    tables: Tables,
    herd: Herd,
    generation: u64,
    disputed: u64,
    decided: Mono,
    /// Something happened that does not wait.
    urgent: bool,
}

impl Engine {
    /// Without relays and destinations. The seed orders those that want to move at the same time.
    pub fn new(seed: u64) -> Self {
        let own = Own { node: NodeId::ZERO, organization: None, region: String::new() };
        let relays = Relays::default();
        Self {
            seed,
            costs: Costs::of(LANE, "", &relays, &Words::default(), Mono(0)),
            own,
            relays,
            targets: BTreeMap::new(),
            users: Vec::new(),
            words: Words::default(),
            due: BTreeSet::new(),
            review: None,
            costed: None,
            tables: Tables::default(),
            herd: Herd::default(),
            generation: 0,
            disputed: 0,
            decided: Mono(0),
            urgent: false,
        }
    }

    /// Takes one input. [`Self::decide`] draws the conclusions.
    pub fn handle(&mut self, input: Input, now: Mono) {
        let waiting = self.due.len();
        self.take(input, now);
        self.urgent |= self.due.len() > waiting;
    }

    fn take(&mut self, input: Input, now: Mono) {
        match input {
            Input::Relays(own, facts) => self.take_relays(own, facts),
            Input::Destination(facts) => self.take_destination(facts),
            Input::Gone(node) => self.forget(node),
            Input::LinkUp(relay) => self.link_turned(relay, true, now),
            Input::LinkDown(relay) => self.link_turned(relay, false, now),
            Input::LinkMeasured(relay, probes) => self.link_measured(relay, probes, now),
            Input::RelayRow(relay, row) => self.take_row(relay, &row, now),
            Input::NotReached(from, to) => self.not_reached(from, to, now),
            Input::PathMeasured(node, relays, probes) => self.path_measured(node, &relays, probes, now),
            Input::PathFailed(node, relays, reason) => self.path_failed(node, &relays, reason, now),
        }
    }

    /// What holds for a destination.
    pub fn decision(&self, destination: NodeId) -> Option<Decision> {
        Some(self.decision_of(self.targets.get(&destination)?))
    }

    /// When [`Self::decide`] is to be called next.
    pub fn due(&self) -> Option<Mono> {
        if self.targets.is_empty() || self.relays.len() == 0 {
            return None;
        }
        if self.urgent {
            return Some(self.decided);
        }
        let soon = !self.due.is_empty() || self.review.is_some();
        Some(self.decided.plus(if soon { SOON } else { IDLE }))
    }

    fn decision_of(&self, target: &Target) -> Decision {
        let nodes =
            |path: Option<Path>| path.map(|path| self.relays.nodes(path.relays())).unwrap_or_default();
        Decision {
            primary: nodes(target.primary),
            backup: nodes(target.backup),
            generation: target.generation,
            since: target.since,
            why: target.why,
        }
    }

    fn take_relays(&mut self, own: Own, facts: Vec<RelayFacts>) {
        let changed = self.relays.replace(&own, facts);
        self.own = own;
        self.users.resize_with(self.relays.len(), BTreeSet::new);
        let positions = RelaySet::of(changed.iter().copied());
        self.words.forget(positions);
        for target in self.targets.values_mut() {
            target.forget(positions);
            target.lost |= target.primary.take_if(|path| path.set().shares(positions)).is_some();
            let backup = target.backup.take_if(|path| path.set().shares(positions));
            target.cut |= target.lost || backup.is_some();
            target.homes = target.facts.homes.iter().filter_map(|home| self.relays.position(*home)).collect();
        }
        changed.iter().for_each(|position| self.users[usize::from(*position)].clear());
        self.due.extend(self.targets.keys());
        self.costed = None;
    }

    fn take_destination(&mut self, facts: Destination) {
        let node = facts.node;
        let target = self.targets.entry(node).or_insert_with(|| Target::new(facts.clone()));
        target.afresh |= target.facts.homes != facts.homes;
        target.facts = facts;
        target.homes = target.facts.homes.iter().filter_map(|home| self.relays.position(*home)).collect();
        self.due.insert(node);
    }

    fn forget(&mut self, node: NodeId) {
        self.targets.remove(&node);
        self.due.remove(&node);
        for users in &mut self.users {
            users.remove(&node);
        }
    }

    fn link_turned(&mut self, relay: NodeId, up: bool, now: Mono) {
        let Some(position) = self.relays.position(relay) else { return };
        let Some(relay) = self.relays.get_mut(position) else { return };
        let was_up = relay.link.is_up();
        if !relay.link.turn(up, now) {
            return;
        }
        if was_up {
            relay.damping.add(FAILED, now);
        }
        self.due.extend(&self.users[usize::from(position)]);
        self.costed = None;
    }

    fn link_measured(&mut self, relay: NodeId, probes: Probes, now: Mono) {
        let Some(relay) = self.relays.position(relay).and_then(|at| self.relays.get_mut(at)) else { return };
        let estimate = &mut relay.link.estimate;
        estimate.probed(probes.answered, probes.lost, now);
        if probes.rtt_us > 0 {
            estimate.sample(probes.rtt_us, now);
        }
        self.costed = None;
    }

    fn take_row(&mut self, relay: NodeId, row: &[(NodeId, Said)], now: Mono) {
        let Some(from) = self.relays.position(relay) else { return };
        let row = row.iter().filter_map(|(of, said)| Some((self.relays.position(*of)?, *said)));
        self.words.take(from, row, now);
        self.costed = None;
    }

    fn not_reached(&mut self, from: NodeId, to: NodeId, now: Mono) {
        let (Some(from), Some(to)) = (self.relays.position(from), self.relays.position(to)) else { return };
        self.words.add(from, to, Said::DOWN, now);
        self.due.extend(self.users[usize::from(from)].intersection(&self.users[usize::from(to)]));
        self.costed = None;
    }

    fn path_failed(&mut self, node: NodeId, relays: &[NodeId], reason: Reason, now: Mono) {
        let Some((path, target)) = self.path_of(node, relays) else { return };
        target.refuse(path, reason, now);
        self.due.insert(node);
    }

    /// A path of known relays to a known destination.
    fn path_of(&mut self, node: NodeId, relays: &[NodeId]) -> Option<(Path, &mut Target)> {
        let path = Path::from_slice(&self.relays.positions_of(relays)?)?;
        Some((path, self.targets.get_mut(&node)?))
    }
}

const LANE: Lane = Lane::C;
/// Between two looks while something waits for one.
const SOON: Duration = Duration::from_secs(1);
/// And while nothing does: costs change with time alone.
const IDLE: Duration = Duration::from_secs(10);
