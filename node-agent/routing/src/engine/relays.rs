//! The relays of the snapshot and what this node knows of them.
//!
//! Owns their positions: a relay keeps the one that it had, so that what is kept by position stays right.

use std::collections::BTreeMap;
use std::time::Duration;

use rap_types::{Mono, NodeId};

use crate::damping::Damping;
use crate::estimate::Estimate;
use crate::input::{Own, RelayFacts};
use crate::relay_set::RELAYS;

/// A relay.
#[derive(Debug, Clone)]
pub(super) struct Relay {
    pub(super) facts: RelayFacts,
    pub(super) link: Link,
    pub(super) damping: Damping,
}

/// The link between this node and a relay.
#[derive(Debug, Clone, Default)]
pub(super) struct Link {
    state: LinkState,
    changed: Mono,
    up: Uptime,
    pub(super) estimate: Estimate,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum LinkState {
    /// Nothing was tried.
    #[default]
    Unknown,
    Up,
    Down,
}

/// Seconds up and down; they fade by half in a week.
#[derive(Debug, Clone, Copy, Default)]
struct Uptime {
    up_s: f64,
    down_s: f64,
}

impl Link {
    /// True if the state is another one.
    pub(super) fn turn(&mut self, up: bool, now: Mono) -> bool {
        let state = if up { LinkState::Up } else { LinkState::Down };
        if self.state == state {
            return false;
        }
        self.up = self.uptime(now);
        (self.state, self.changed) = (state, now);
        true
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == LinkState::Up
    }

    /// Whether a path cannot begin with it. A link that is made for paths alone is tried again after a while.
    pub(super) fn is_down(&self, kept: bool, now: Mono) -> bool {
        self.state == LinkState::Down && (kept || now.since(self.changed) < TRIED_AGAIN)
    }

    /// Share of time in which it was up, above 0.
    pub(super) fn share_up(&self, now: Mono) -> f64 {
        let Uptime { up_s, down_s } = self.uptime(now);
        (PRIOR_UP_S + up_s) / (PRIOR_UP_S + up_s + down_s)
    }

    fn uptime(&self, now: Mono) -> Uptime {
        let since = now.since(self.changed).as_secs_f64();
        let kept = (-since / UPTIME_HALF_LIFE_S).exp2();
        let (up, down) = match self.state {
            LinkState::Unknown => (0.0, 0.0),
            LinkState::Up => (since, 0.0),
            LinkState::Down => (0.0, since),
        };
        Uptime { up_s: self.up.up_s * kept + up, down_s: self.up.down_s * kept + down }
    }
}

/// Relays by position.
#[derive(Debug, Clone, Default)]
pub(super) struct Relays {
    positions: Vec<Option<Relay>>,
    by_node: BTreeMap<NodeId, u8>,
}

impl Relays {
    /// Takes the relays of a snapshot, but this node; positions that are another's or nobody's now.
    pub(super) fn replace(&mut self, own: &Own, facts: Vec<RelayFacts>) -> Vec<u8> {
        let facts = facts.into_iter().filter(|facts| facts.node != own.node);
        let wanted: BTreeMap<NodeId, RelayFacts> =
            facts.take(RELAYS).map(|facts| (facts.node, facts)).collect();
        let mut changed = Vec::new();
        for (position, relay) in (0..).zip(&mut self.positions) {
            match relay.as_ref().map(|relay| wanted.get(&relay.facts.node)) {
                Some(Some(facts)) => relay.iter_mut().for_each(|relay| relay.facts = facts.clone()),
                Some(None) => {
                    *relay = None;
                    changed.push(position);
                }
                None => {}
            }
        }
        self.by_node.retain(|node, _| wanted.contains_key(node));
        for (node, facts) in wanted {
            if self.by_node.contains_key(&node) {
                continue;
            }
            let relay = Some(Relay { facts, link: Link::default(), damping: Damping::default() });
            let free = self.positions.iter().position(Option::is_none);
            let at = free.unwrap_or(self.positions.len());
            match self.positions.get_mut(at) {
                Some(position) => *position = relay,
                None => self.positions.push(relay),
            }
            if let Ok(at) = u8::try_from(at) {
                self.by_node.insert(node, at);
                changed.push(at);
            }
        }
        changed
    }

    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    pub(super) fn position(&self, node: NodeId) -> Option<u8> {
        self.by_node.get(&node).copied()
    }

    /// `None`: a relay is not known.
    pub(super) fn positions_of(&self, nodes: &[NodeId]) -> Option<Vec<u8>> {
        nodes.iter().map(|node| self.position(*node)).collect()
    }

    pub(super) fn get(&self, position: u8) -> Option<&Relay> {
        self.positions.get(usize::from(position))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, position: u8) -> Option<&mut Relay> {
        self.positions.get_mut(usize::from(position))?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, &Relay)> {
        (0..).zip(&self.positions).filter_map(|(position, relay)| Some((position, relay.as_ref()?)))
    }

    pub(super) fn nodes(&self, positions: &[u8]) -> Vec<NodeId> {
        positions.iter().filter_map(|position| Some(self.get(*position)?.facts.node)).collect()
    }
}

const TRIED_AGAIN: Duration = Duration::from_secs(60);
const UPTIME_HALF_LIFE_S: f64 = 7.0 * 86_400.0;
/// A link of which little is known was up for an hour.
const PRIOR_UP_S: f64 = 3600.0;
