//! What is true of the network, which no node knows: who can reach whom by which of the planned paths.

use std::time::Duration;

use anyhow::Result;
use rand::RngExt as _;
use rap_types::NodeId;

use super::happening::Happening;
use super::hub::Fabric;
use super::node::Conduct;
use crate::events::Event;
use crate::require::require;

impl Fabric {
    /// Other pairs talk from now on: each node without a duty and another one that it knows.
    pub fn choose_pairs(&mut self) {
        self.round += 1;
        let plain = |node: &&NodeId| self.nodes[*node].facts.terms.carries.is_none();
        let plain: Vec<_> = self.nodes.keys().filter(plain).copied().collect();
        self.pairs.clear();
        for one in &plain {
            let others: Vec<_> = plain
                .iter()
                .filter(|other| *one != **other && self.nodes[one].facts.plans.contains_key(other))
                .collect();
            if others.is_empty() {
                continue;
            }
            let other = *others[self.random.random_range(0..others.len())];
            let pair = (*one.min(&other), *one.max(&other));
            if !self.pairs.contains(&pair) {
                self.pairs.push(pair);
            }
        }
        for (one, other) in self.pairs.clone() {
            for (from, to) in [(one, other), (other, one)] {
                let first = self.after(0, 2_000);
                self.queue.push(first, Happening::Talk(from, to, self.round));
            }
        }
    }

    /// Every pair that a planned path connects has heard each other lately.
    pub fn require_talk(&mut self) -> Result<()> {
        for (one, other) in self.pairs.clone() {
            let run = self.runs(one) && self.runs(other);
            if !run || !self.is_connected(one, other) {
                self.counts.add(Event::PairCutOff);
                continue;
            }
            for (at, of) in [(one, other), (other, one)] {
                let heard = self.heard_of(at, of);
                let silent = heard.map(|heard| self.now.mono.since(heard));
                require(silent.is_some_and(|silent| silent < LATELY), || {
                    format!("{at} has not heard {of} for {silent:?}, and a planned path connects them")
                })?;
            }
            self.counts.add(Event::PairTalks);
        }
        Ok(())
    }

    fn runs(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.plane.is_some())
    }

    /// One of the paths that either end plans to the other is whole.
    fn is_connected(&self, one: NodeId, other: NodeId) -> bool {
        [(one, other), (other, one)].into_iter().any(|(source, destination)| {
            let plan = self.nodes[&source].facts.plans.get(&destination);
            let paths = plan.into_iter().flat_map(|plan| [Some(&plan.primary), plan.backup.as_ref()]);
            paths.flatten().any(|relays| self.is_whole(source, relays, destination))
        })
    }

    fn is_whole(&self, source: NodeId, relays: &[NodeId], destination: NodeId) -> bool {
        let carries = |relay: &NodeId| {
            self.nodes.get(relay).is_some_and(|node| {
                let draining = node.facts.terms.carries.is_none_or(|carries| carries.draining);
                node.plane.is_some()
                    && node.conduct == Conduct::Honest
                    && !draining
                    && node.facts.permits(*relay, source, destination)
            })
        };
        let mut way = vec![source];
        way.extend(relays);
        way.push(destination);
        relays.iter().all(carries) && way.windows(2).all(|leg| self.can_link(leg[0], leg[1]))
    }

    /// The node before may dial the one behind for a request; the other way round only who wants the link does.
    fn can_link(&self, before: NodeId, behind: NodeId) -> bool {
        let facts = |node: NodeId| &self.nodes[&node].facts;
        let knows = |one: NodeId, other: NodeId| facts(one).terms.known.contains_key(&other);
        let dialled = self.wire.inbound.contains(&behind)
            || (self.wire.inbound.contains(&before) && facts(behind).dialled.contains(&before));
        dialled && self.wire.connects(before, behind) && knows(before, behind) && knows(behind, before)
    }
}

const LATELY: Duration = Duration::from_secs(6);
