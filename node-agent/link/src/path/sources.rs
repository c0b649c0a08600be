//! Which paths this node has, to which destinations, and when the next one is due.
//!
//! Owns generations and the order of primary and backup. Sends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rap_types::{Mono, NodeId};

use crate::path::own::{OwnPath, Stage};
use crate::path::terms::{PathEnd, PathPlan, PathSlot, PathView};

/// Paths of this node, and the destinations of the plans.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    pub(crate) paths: BTreeMap<u64, OwnPath>,
    pub(crate) destinations: BTreeMap<NodeId, Destination>,
    /// Destinations that were used lately: the others need no look.
    pub(crate) active: BTreeSet<NodeId>,
    /// Latest generation: instance, counter.
    instance: u32,
    counter: u32,
    /// How far hops lifted the instance above that of the terms.
    lifted: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) plan: PathPlan,
    /// Last time that the user asked for a path or that a frame passed.
    pub(crate) used: Option<Mono>,
    /// From this instant the backup is asked for, whatever becomes of the primary.
    pub(crate) backup_at: Mono,
    pub(crate) slots: [Slot; 2],
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slot {
    pub(crate) current: Option<u64>,
    /// The path that will take over.
    pub(crate) coming: Option<u64>,
    /// `current` cannot be renewed.
    pub(crate) ends: bool,
    pub(crate) failures: u32,
    /// The attempt under way failed for a reason that time does not heal and another attempt may.
    pub(crate) at_once: bool,
    pub(crate) retry_at: Mono,
}

pub(crate) const SLOTS: [PathSlot; 2] = [PathSlot::Primary, PathSlot::Backup];

impl Destination {
    pub(crate) const fn new(plan: PathPlan) -> Self {
        let slot =
            Slot { current: None, coming: None, ends: false, failures: 0, at_once: false, retry_at: Mono(0) };
        Self { plan, used: None, backup_at: Mono(u64::MAX), slots: [slot; 2] }
    }

    pub(crate) fn is_active(&self, now: Mono) -> bool {
        self.used.is_some_and(|used| now.since(used) < USED_TIME)
    }

    pub(crate) fn relays(&self, slot: PathSlot) -> Option<&Vec<NodeId>> {
        match slot {
            PathSlot::Primary => Some(&self.plan.primary),
            PathSlot::Backup | PathSlot::Answering => self.plan.backup.as_ref(),
        }
    }

    pub(crate) fn slot(&mut self, slot: PathSlot) -> &mut Slot {
        &mut self.slots[usize::from(slot != PathSlot::Primary)]
    }
}

impl Sources {
    pub(crate) fn raise_instance(&mut self, instance: u32) {
        if instance > self.instance {
            (self.instance, self.counter, self.lifted) = (instance, 0, 0);
        }
    }

    /// Counts a use of the paths to a destination.
    pub(crate) fn use_paths(&mut self, node: NodeId, now: Mono) {
        if let Some(destination) = self.destinations.get_mut(&node)
            && destination.used.replace(now).is_none()
        {
            self.active.insert(node);
        }
    }

    pub(crate) fn active(&self) -> impl Iterator<Item = (NodeId, &Destination)> {
        self.active.iter().filter_map(|node| Some((*node, self.destinations.get(node)?)))
    }

    pub(crate) fn generation(&mut self) -> u64 {
        self.counter = self.counter.checked_add(1).unwrap_or_else(|| {
            self.instance = self.instance.saturating_add(1);
            1
        });
        (u64::from(self.instance) << 32) | u64::from(self.counter)
    }

    /// Goes above what a hop knows. The instance rises by at most [`LIFT_MAX`] in all: a hop cannot use up the numbers.
    pub(crate) fn lift(&mut self, highest: u64) -> bool {
        let (instance, counter) = ((highest >> 32) as u32, highest as u32);
        if (instance, counter) <= (self.instance, self.counter) {
            return true;
        }
        let lifted = self.lifted.saturating_add(instance - self.instance);
        if lifted > LIFT_MAX {
            return false;
        }
        (self.instance, self.counter, self.lifted) = (instance, counter, lifted);
        true
    }

    /// When something is to do for a path or a destination.
    pub(crate) fn due(&self) -> Option<Mono> {
        let starts = |(_, destination): (NodeId, _)| SLOTS.map(|slot| self.start_at(destination, slot));
        let starts = self.active().flat_map(starts).flatten();
        self.paths.values().map(OwnPath::due).chain(starts).min()
    }

    /// Paths that are up, without those that were replaced.
    pub(crate) fn up(&self) -> impl Iterator<Item = PathView> {
        let up = |path: &OwnPath| matches!(path.stage, Stage::Up { .. } | Stage::Renewing);
        self.paths.iter().filter(move |(_, path)| up(path)).map(|(id, path)| PathView {
            end: PathEnd(*id),
            peer: path.destination,
            slot: path.slot,
            relays: path.relays(),
        })
    }

    /// Destinations for which a path must be asked for now.
    pub(crate) fn ready(&self, now: Mono) -> Vec<NodeId> {
        let due = |destination| {
            SLOTS.iter().any(|slot| self.start_at(destination, *slot).is_some_and(|at| at <= now))
        };
        self.active().filter(|(_, destination)| due(destination)).map(|(node, _)| node).collect()
    }

    /// When a path of this slot must be asked for; `None`: it is there, under way, or not wanted.
    pub(crate) fn start_at(&self, destination: &Destination, slot: PathSlot) -> Option<Mono> {
        let relays = destination.relays(slot)?;
        let used = destination.used?;
        let Slot { current, coming, ends, retry_at, .. } =
            destination.slots[usize::from(slot != PathSlot::Primary)];
        let path = current.and_then(|id| self.paths.get(&id));
        if coming.is_some() || path.is_some_and(|path| !ends && path.relays() == *relays) {
            return None;
        }
        let primary = destination.slots[0];
        let first = slot == PathSlot::Primary || primary.current.is_some() || primary.failures > 0;
        let at = if first { retry_at } else { retry_at.max(destination.backup_at) };
        // Else nobody used it when the time comes.
        (at < used.plus(USED_TIME)).then_some(at)
    }
}

/// A path is kept while a frame passed on it or on its sibling within this time.
const USED_TIME: Duration = Duration::from_secs(60);
/// How far hops may lift the instance.
const LIFT_MAX: u32 = 1000;
