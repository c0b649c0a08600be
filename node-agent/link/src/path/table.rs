//! The labels of this node, and the paths that it carries or ends.
//!
//! Owns the indexes of the paths and the rule who goes when there are too many. Knows no messages.

use std::collections::{BTreeMap, BTreeSet};

use rap_types::{Mono, NodeId, Reason};

use crate::path::budget::Bucket;
use crate::path::entry::{Direction, Entry};
use crate::path::generations::Generations;
use crate::path::terms::PathLimits;

/// What a frame with a label belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A path that this node carries or ends.
    Entry(u64, Direction),
    /// A path of this node: what comes back.
    Own(u64),
}

type Labels = BTreeMap<(NodeId, u64), Target>;

/// Everything that labels lead to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    entries: BTreeMap<u64, Entry>,
    arriving: Labels,
    leaving: Labels,
    /// By the node before this one, and path id.
    by_path: BTreeMap<(NodeId, [u8; 16]), u64>,
    by_source: BTreeMap<NodeId, BTreeSet<u64>>,
    deadlines: BTreeSet<(Mono, u64)>,
    /// Of paths with a rate, by direction.
    rates: BTreeMap<u64, [Bucket; 2]>,
    pub(crate) generations: Generations,
}

impl Table {
    pub(crate) fn entry(&self, id: u64) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(crate) fn entry_mut(&mut self, id: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// What a frame from `neighbour` with this label belongs to.
    pub(crate) fn arriving(&self, neighbour: NodeId, label: u64) -> Option<Target> {
        self.arriving.get(&(neighbour, label)).copied()
    }

    /// Whose frames to `neighbour` have this label.
    pub(crate) fn leaving(&self, neighbour: NodeId, label: u64) -> Option<Target> {
        self.leaving.get(&(neighbour, label)).copied()
    }

    /// The path that `previous` calls so.
    pub(crate) fn by_path(&self, previous: NodeId, path_id: [u8; 16]) -> Option<u64> {
        self.by_path.get(&(previous, path_id)).copied()
    }

    /// True if no other path uses the labels of `entry`, or its id.
    pub(crate) fn is_free(&self, entry: &Entry) -> bool {
        entry.arriving().all(|(key, _)| !self.arriving.contains_key(&key))
            && entry.leaving().all(|(key, _)| !self.leaving.contains_key(&key))
            && !self.by_path.contains_key(&(entry.previous, entry.path_id))
    }

    /// The path that must go so that one more of this source fits: its own one that was idle longest. `Ok(None)`: it fits.
    pub(crate) fn excess(&self, source: NodeId, limits: &PathLimits) -> Result<Option<u64>, Reason> {
        let own = self.by_source.get(&source);
        let count = own.map_or(0, BTreeSet::len);
        if count < limits.paths_per_source && self.entries.len() < limits.paths {
            return Ok(None);
        }
        let used = |id: &u64| self.entries.get(id).map(|entry| (entry.last_used, *id));
        let idle = own.and_then(|own| own.iter().filter_map(used).min());
        idle.map(|(_, id)| Some(id)).ok_or(Reason::PathCapacity)
    }

    /// Takes a path whose labels are free.
    pub(crate) fn insert(&mut self, id: u64, entry: Entry) {
        if let Some(rate) = entry.rate() {
            self.rates.insert(id, [Bucket::full(rate, entry.last_used); 2]);
        }
        self.arriving.extend(entry.arriving().map(|(key, direction)| (key, Target::Entry(id, direction))));
        self.leaving.extend(entry.leaving().map(|(key, direction)| (key, Target::Entry(id, direction))));
        self.by_path.insert((entry.previous, entry.path_id), id);
        self.by_source.entry(entry.source).or_default().insert(id);
        self.deadlines.insert((entry.deadline, id));
        self.generations.begin(entry.stream(), entry.generation);
        self.entries.insert(id, entry);
    }

    pub(crate) fn remove(&mut self, id: u64, now: Mono) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.rates.remove(&id);
        for (key, _) in entry.arriving() {
            self.arriving.remove(&key);
        }
        for (key, _) in entry.leaving() {
            self.leaving.remove(&key);
        }
        self.by_path.remove(&(entry.previous, entry.path_id));
        if let Some(own) = self.by_source.get_mut(&entry.source) {
            own.remove(&id);
            if own.is_empty() {
                self.by_source.remove(&entry.source);
            }
        }
        self.deadlines.remove(&(entry.deadline, id));
        self.generations.end(entry.stream(), now);
        Some(entry)
    }

    /// Whether a frame of `length` bytes is within the rate of its path.
    pub(crate) fn within_rate(&mut self, id: u64, direction: Direction, length: usize, now: Mono) -> bool {
        match (self.rates.get_mut(&id), self.entries.get(&id).and_then(Entry::rate)) {
            (Some(buckets), Some(rate)) => buckets[direction as usize].take_many(length, rate, now),
            _ => true,
        }
    }

    pub(crate) fn set_deadline(&mut self, id: u64, deadline: Mono) {
        if let Some(entry) = self.entries.get_mut(&id) {
            self.deadlines.remove(&(entry.deadline, id));
            entry.deadline = deadline;
            self.deadlines.insert((deadline, id));
        }
    }

    /// Labels of a path of this node: frames leave with one and come back with the other. False: one is taken.
    pub(crate) fn insert_own(&mut self, end: u64, hop: NodeId, out: u64, back: u64) -> bool {
        let free = !self.leaving.contains_key(&(hop, out)) && !self.arriving.contains_key(&(hop, back));
        if free {
            self.leaving.insert((hop, out), Target::Own(end));
            self.arriving.insert((hop, back), Target::Own(end));
        }
        free
    }

    pub(crate) fn remove_own(&mut self, hop: NodeId, out: u64, back: u64) {
        self.leaving.remove(&(hop, out));
        self.arriving.remove(&(hop, back));
    }

    /// A path whose deadline has come.
    pub(crate) fn expired(&self, now: Mono) -> Option<u64> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| *id)
    }

    /// The earliest deadline.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.deadlines.first().map(|(deadline, _)| *deadline).into_iter().chain(self.generations.due()).min()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
