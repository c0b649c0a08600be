//! What one data plane took and lost, written down beside its core by who sees only messages and links.
//!
//! Owns the rules that must hold of every frame and install at one node. It never asks the core what it keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use prost::Message as _;
use rap_contract::PathInstall;
use rap_types::{Mono, NodeId};
use rap_wire::v1;

use super::table::Facts;
use crate::require::require;

/// One hop of a path, as its install says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    pub path: [u8; 16],
    pub generation: u64,
    pub source: NodeId,
    pub destination: NodeId,
    pub previous: NodeId,
    pub in_label: u64,
    pub back_out: u64,
    /// The next node, the label of frames to it, and that of frames from it.
    pub next: Option<(NodeId, u64, u64)>,
    pub lifetime: Duration,
}

impl Hop {
    /// The first install of a request, unverified.
    pub fn first(request: &[u8]) -> Option<Self> {
        let request = v1::PathRequest::decode(request).ok()?;
        let envelope = v1::SignedEnvelope::decode(request.installs.first()?.as_slice()).ok()?;
        let install = v1::PathInstall::decode(envelope.payload.as_slice()).ok()?;
        let node = |bytes: &[u8]| NodeId::from_slice(bytes).ok();
        Some(Self {
            path: install.path_id.try_into().ok()?,
            generation: install.generation,
            source: node(&install.source)?,
            destination: node(&install.destination)?,
            previous: node(&install.previous)?,
            in_label: install.in_label,
            back_out: install.back_out_label,
            next: node(&install.next).map(|next| (next, install.out_label, install.back_in_label)),
            lifetime: Duration::from_secs(u64::from(install.lifetime_s)),
        })
    }

    /// No node is in two places of the path.
    fn is_simple(&self, me: NodeId) -> bool {
        let next = self.next.map(|(next, ..)| next);
        let different = 2
            + usize::from(self.previous != self.source)
            + usize::from(me != self.destination)
            + usize::from(next.is_some_and(|next| next != self.destination));
        let nodes = [self.source, self.destination, self.previous, me].into_iter().chain(next);
        nodes.collect::<BTreeSet<_>>().len() == different
    }

    fn touches(&self, node: NodeId) -> bool {
        self.previous == node || self.next.is_some_and(|(next, ..)| next == node)
    }

    fn arriving(&self) -> impl Iterator<Item = (NodeId, u64)> {
        let back = self.next.map(|(next, _, back)| (next, back));
        [(self.previous, self.in_label)].into_iter().chain(back)
    }

    fn leaving(&self) -> impl Iterator<Item = (NodeId, u64)> {
        let forward = self.next.map(|(next, out, _)| (next, out));
        [(self.previous, self.back_out)].into_iter().chain(forward)
    }
}

/// A path that was taken.
#[derive(Debug)]
struct Taken {
    hop: Hop,
    /// The latest end that any install gave it.
    until: Mono,
    /// Every hop behind this one took it.
    answered: bool,
}

type Key = (NodeId, [u8; 16]);

/// The notes of one life of a data plane.
#[derive(Debug, Default)]
pub struct Ledger {
    taken: BTreeMap<Key, Taken>,
    arriving: BTreeMap<(NodeId, u64), Key>,
    leaving: BTreeMap<(NodeId, u64), Key>,
    /// Passed on and not answered: to whom and under which name, which path, and whether it is new.
    asked: BTreeMap<(NodeId, u64), (Key, bool)>,
    /// Highest generation of each (source, destination).
    highest: BTreeMap<(NodeId, NodeId), u64>,
    /// Labels of own paths: of frames to the first hop, and of frames from it with the other end.
    own: BTreeSet<(NodeId, u64)>,
    back: BTreeMap<(NodeId, u64), NodeId>,
}

/// What an accepted install was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    New,
    Renewal,
}

/// What a frame must become at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Forward(NodeId, u64),
    /// This node is an end; the other one.
    Deliver(NodeId),
}

impl Ledger {
    /// The core took an install that came from `from`.
    pub fn accept(
        &mut self,
        me: NodeId,
        from: NodeId,
        hop: &Hop,
        passed_as: Option<(NodeId, u64)>,
        facts: &Facts,
        now: Mono,
    ) -> Result<Accepted> {
        let (source, destination) = (hop.source, hop.destination);
        require(hop.previous == from, || format!("{me} took an install for {} from {from}", hop.previous))?;
        require(facts.permits(me, source, destination), || {
            format!("{me} took a path from {source} to {destination} that it may not carry")
        })?;
        require(hop.is_simple(me), || format!("{me} took a path that goes round: {hop:?}"))?;
        let (key, until) = ((from, hop.path), now.plus(hop.lifetime));
        let known = self.taken.get_mut(&key).filter(|taken| taken.hop == *hop);
        let accepted = if let Some(taken) = known {
            taken.until = taken.until.max(until);
            Accepted::Renewal
        } else {
            let highest = self.highest.entry((source, destination)).or_default();
            require(hop.generation > *highest, || {
                format!(
                    "{me} took generation {} after {highest} from {source} to {destination}",
                    hop.generation
                )
            })?;
            *highest = hop.generation;
            self.arriving.extend(hop.arriving().map(|label| (label, key)));
            self.leaving.extend(hop.leaving().map(|label| (label, key)));
            self.taken.insert(key, Taken { hop: hop.clone(), until, answered: passed_as.is_none() });
            Accepted::New
        };
        if let Some(name) = passed_as {
            self.asked.insert(name, (key, accepted == Accepted::New));
        }
        Ok(accepted)
    }

    /// True if a refusal for its generation met no living path of the same stream: what was remembered of one did it.
    pub fn is_tombstone(&self, hop: &Hop) -> bool {
        let stream =
            |taken: &Taken| (taken.hop.source, taken.hop.destination) == (hop.source, hop.destination);
        self.highest.contains_key(&(hop.source, hop.destination)) && !self.taken.values().any(stream)
    }

    /// An answer came, or the request could not be passed on.
    pub fn answered(&mut self, from: NodeId, request: u64, good: bool) {
        match self.asked.remove(&(from, request)) {
            Some((key, _)) if good => {
                if let Some(taken) = self.taken.get_mut(&key) {
                    taken.answered = true;
                }
            }
            Some((key, true)) => self.forget(key),
            _ => {}
        }
    }

    /// A withdrawal came.
    pub fn withdrawn(&mut self, from: NodeId, text: &[u8]) -> bool {
        let Ok(text) = v1::PathWithdraw::decode(text) else { return false };
        let Ok(path) = <[u8; 16]>::try_from(text.path_id.as_slice()) else { return false };
        let known =
            self.taken.get(&(from, path)).is_some_and(|taken| taken.hop.generation == text.generation);
        if known {
            self.forget((from, path));
        }
        known
    }

    /// A fault came: frames with this label no longer pass.
    pub fn faulted(&mut self, from: NodeId, text: &[u8]) {
        let Ok(fault) = v1::PathFault::decode(text) else { return };
        if let Some(key) = self.leaving.get(&(from, fault.label)).copied() {
            self.forget(key);
        }
    }

    /// The link with a neighbour ended.
    pub fn lost(&mut self, node: NodeId) {
        self.forget_if(|taken| taken.hop.touches(node));
        self.asked.retain(|(to, _), _| *to != node);
        self.own.retain(|(to, _)| *to != node);
        self.back.retain(|(to, _), _| *to != node);
    }

    /// A table is in force.
    pub fn apply(&mut self, me: NodeId, facts: &Facts) {
        self.forget_if(|taken| {
            !facts.permits(me, taken.hop.source, taken.hop.destination)
                || facts.revoked.contains_key(&taken.hop.source)
        });
    }

    /// This node asks for a path of its own.
    pub fn asks(&mut self, first: NodeId, install: &PathInstall) {
        self.own.insert((first, install.in_label));
        self.back.insert((first, install.back_out_label), install.destination);
    }

    /// What must become of a frame that the core takes on.
    pub fn due(&self, me: NodeId, from: NodeId, label: u64, facts: &Facts, now: Mono) -> Result<Due> {
        if let Some(end) = self.back.get(&(from, label)) {
            return Ok(Due::Deliver(*end));
        }
        let key = self.arriving.get(&(from, label));
        let taken = key.and_then(|key| self.taken.get(key));
        let taken =
            taken.with_context(|| format!("{me} took a frame of {from} by a label that nobody installed"))?;
        let hop = &taken.hop;
        require(taken.answered, || format!("{me} took a frame on a path that is not whole: {hop:?}"))?;
        require(now < taken.until, || format!("{me} took a frame on a path that is over: {hop:?}"))?;
        require(facts.permits(me, hop.source, hop.destination), || {
            format!("{me} carries for ends that it may not carry for: {hop:?}")
        })?;
        Ok(match hop.next {
            Some((next, out, back)) if (from, label) != (next, back) => Due::Forward(next, out),
            None => Due::Deliver(hop.source),
            Some(_) => Due::Forward(hop.previous, hop.back_out),
        })
    }

    /// Where this node, as an end, may send a frame on a path: to the neighbour, by the label.
    pub fn may_send(&self, to: NodeId, label: u64) -> bool {
        let taken = self.leaving.get(&(to, label)).and_then(|key| self.taken.get(key));
        self.own.contains(&(to, label)) || taken.is_some_and(|taken| taken.hop.next.is_none())
    }

    /// Labels that somebody else than `not` may use here, with who may.
    pub fn label_of_another(&self, not: NodeId) -> Option<(NodeId, u64)> {
        self.arriving.keys().find(|(neighbour, _)| *neighbour != not).copied()
    }

    /// Another label that this node may send to the same neighbour.
    pub fn other_label(&self, to: NodeId, label: u64) -> Option<u64> {
        let mut labels = self.leaving.range((to, 0)..=(to, u64::MAX)).map(|((_, label), _)| *label);
        labels.find(|other| *other != label)
    }

    fn forget_if(&mut self, gone: impl Fn(&Taken) -> bool) {
        let gone: Vec<Key> =
            self.taken.iter().filter(|(_, taken)| gone(taken)).map(|(key, _)| *key).collect();
        gone.into_iter().for_each(|key| self.forget(key));
    }

    fn forget(&mut self, key: Key) {
        if let Some(taken) = self.taken.remove(&key) {
            for label in taken.hop.arriving() {
                self.arriving.remove(&label);
            }
            for label in taken.hop.leaving() {
                self.leaving.remove(&label);
            }
        }
    }
}
