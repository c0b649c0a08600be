//! The paths of this node: which there are, and what they do next.
//!
//! Owns the choice of labels and generations, the order of requests, and attempts after a failure. `own` has the
//! transitions of one path.

use std::collections::BTreeMap;
use std::time::Duration;

use rap_contract::{PATH_HOPS_MAX, PathInstall, PathNext};
use rap_types::{Mono, NodeId, Reason, Wall};
use rap_wire::v1::{self, LinkLane};

use crate::frame::FrameKind;
use crate::path::message;
use crate::path::own::{Act, Change, DRAIN_TIME, HopLabels, OwnPath, Stage};
use crate::path::paths::Paths;
use crate::path::requests::Asker;
use crate::path::terms::{
    ANSWER_TIME, PathEnd, PathEvent, PathInputs, PathOutput, PathPlan, PathSlot, PathTerms, Verdict,
};

/// Paths of this node, and the destinations of the plans.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    paths: BTreeMap<u64, OwnPath>,
    destinations: BTreeMap<NodeId, Destination>,
    /// Latest generation: instance, counter.
    instance: u32,
    counter: u32,
    /// How far hops lifted the instance above that of the terms.
    lifted: u32,
}

#[derive(Debug, Clone)]
struct Destination {
    plan: PathPlan,
    /// Last time that the user asked for a path or that a frame passed.
    used: Option<Mono>,
    /// From this instant the backup is asked for, whatever becomes of the primary.
    backup_at: Mono,
    slots: [Slot; 2],
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    current: Option<u64>,
    /// The path that will take over.
    coming: Option<u64>,
    /// `current` cannot be renewed.
    ends: bool,
    failures: u32,
    /// The attempt under way failed for a reason that time does not heal and another attempt may.
    at_once: bool,
    retry_at: Mono,
}

const SLOTS: [PathSlot; 2] = [PathSlot::Primary, PathSlot::Backup];

impl Destination {
    fn is_active(&self, now: Mono) -> bool {
        self.used.is_some_and(|used| now.since(used) < USED_TIME)
    }

    fn relays(&self, slot: PathSlot) -> Option<&Vec<NodeId>> {
        match slot {
            PathSlot::Primary => Some(&self.plan.primary),
            PathSlot::Backup | PathSlot::Answering => self.plan.backup.as_ref(),
        }
    }

    fn slot(&mut self, slot: PathSlot) -> &mut Slot {
        &mut self.slots[usize::from(slot != PathSlot::Primary)]
    }
}

impl Sources {
    pub(crate) fn raise_instance(&mut self, instance: u32) {
        if instance > self.instance {
            (self.instance, self.counter, self.lifted) = (instance, 0, 0);
        }
    }

    fn generation(&mut self) -> u64 {
        self.counter = self.counter.checked_add(1).unwrap_or_else(|| {
            self.instance = self.instance.saturating_add(1);
            1
        });
        (u64::from(self.instance) << 32) | u64::from(self.counter)
    }

    /// Goes above what a hop knows. The instance rises by at most [`LIFT_MAX`] in all: a hop cannot use up the numbers.
    fn lift(&mut self, highest: u64) -> bool {
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
}

impl Paths {
    /// Replaces all plans. A path whose relays changed stays until the new one is up. Returns how many plans make no
    /// sense: these are left out.
    pub fn set_plans(
        &mut self,
        plans: impl IntoIterator<Item = PathPlan>,
        inputs: &mut PathInputs<'_>,
    ) -> usize {
        let (plans, senseless): (Vec<_>, Vec<_>) = plans.into_iter().partition(|plan| self.is_sensible(plan));
        let mut plans: BTreeMap<_, _> = plans.into_iter().map(|plan| (plan.destination, plan)).collect();
        let gone: Vec<u64> = self
            .sources
            .paths
            .iter()
            .filter(|(_, path)| match plans.get(&path.destination) {
                None => true,
                Some(plan) => path.slot == PathSlot::Backup && plan.backup.is_none(),
            })
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.change(id, Change::Unplanned, inputs);
        }
        self.sources.destinations.retain(|node, destination| match plans.remove(node) {
            Some(plan) => {
                destination.plan = plan;
                true
            }
            None => false,
        });
        let new = plans.into_iter().map(|(node, plan)| {
            let slots = [Slot::default(); 2];
            (node, Destination { plan, used: None, backup_at: Mono(u64::MAX), slots })
        });
        self.sources.destinations.extend(new);
        self.tend_sources(inputs);
        senseless.len()
    }

    fn is_sensible(&self, plan: &PathPlan) -> bool {
        let simple = |relays: &Vec<NodeId>| {
            let mut nodes = vec![self.me, plan.destination];
            nodes.extend(relays);
            nodes.sort();
            nodes.dedup();
            nodes.len() == relays.len() + 2 && relays.len() < usize::from(PATH_HOPS_MAX)
        };
        simple(&plan.primary) && plan.backup.as_ref().is_none_or(simple)
    }

    /// Installs the paths to a destination and keeps them while they are used.
    ///
    /// # Errors
    /// `path.unknown`: no plan has it.
    pub fn want(&mut self, destination: NodeId, inputs: &mut PathInputs<'_>) -> Result<(), Reason> {
        let now = inputs.now.mono;
        let known = self.sources.destinations.get_mut(&destination).ok_or(Reason::PathUnknown)?;
        let was_active = known.is_active(now);
        known.used = Some(now);
        if !was_active {
            known.backup_at = now.plus(BACKUP_WAIT);
            known.slots.iter_mut().for_each(|slot| (slot.failures, slot.retry_at) = (0, now));
        }
        self.tend(destination, inputs);
        Ok(())
    }

    /// Where a datagram for the other end of a path goes: the neighbour, its label, the hop budget.
    ///
    /// # Errors
    /// `path.unknown`.
    pub fn send_on(&mut self, end: PathEnd, now: Mono) -> Result<(NodeId, u64, u8), Reason> {
        if let Some(entry) = self.table.entry_mut(end.0).filter(|entry| entry.next.is_none()) {
            if entry.deadline <= now {
                return Err(Reason::PathUnknown);
            }
            entry.last_used = now;
            return Ok((entry.previous, entry.back_out_label, entry.length));
        }
        let path = self.sources.paths.get(&end.0).filter(|path| path.stage.is_up() && now < path.until);
        let path = path.ok_or(Reason::PathUnknown)?;
        let (first, budget) = (path.first(), path.hops.len() as u8);
        if let Some(destination) = self.sources.destinations.get_mut(&path.destination) {
            destination.used = Some(now);
        }
        Ok((first.node, first.in_label, budget))
    }

    /// The link with a neighbour is up: what waited for it is tried now.
    pub fn link_up(&mut self, node: NodeId, inputs: &mut PathInputs<'_>) {
        let now = inputs.now.mono;
        for destination in self.sources.destinations.values_mut() {
            for slot in SLOTS {
                let first = destination.relays(slot).map(|relays| relays.first().copied());
                if first.is_some_and(|first| first.unwrap_or(destination.plan.destination) == node) {
                    let slot = destination.slot(slot);
                    slot.retry_at = slot.retry_at.min(now);
                }
            }
        }
        self.tend_sources(inputs);
    }

    pub(crate) fn first_hop_lost(&mut self, node: NodeId, inputs: &mut PathInputs<'_>) {
        let over: Vec<u64> = self
            .sources
            .paths
            .iter()
            .filter(|(_, path)| path.first().node == node)
            .map(|(id, _)| *id)
            .collect();
        // First all ends, so that nobody moves to a path that is about to end.
        for id in &over {
            self.change(*id, Change::Broken(Reason::PathNextUnreachable), inputs);
        }
        self.tend_sources(inputs);
    }

    /// A frame came back on a path of this node.
    pub(crate) fn returned(&mut self, id: u64, now: Mono) -> Option<Verdict> {
        let path = self.sources.paths.get(&id).filter(|path| path.stage.is_up() && now < path.until)?;
        let peer = path.destination;
        if let Some(destination) = self.sources.destinations.get_mut(&peer) {
            destination.used = Some(now);
        }
        Some(Verdict::Deliver { end: PathEnd(id), peer })
    }

    pub(crate) fn answered(
        &mut self,
        id: u64,
        until: Mono,
        answer: &v1::PathAnswer,
        inputs: &mut PathInputs<'_>,
    ) {
        if answer.reason.is_empty() {
            let now = inputs.now.mono;
            if let Some(path) = self.sources.paths.get_mut(&id) {
                path.until = until;
            }
            let renew_at = renewal(now, until, (inputs.random)());
            self.change(id, Change::Installed { renew_at }, inputs);
        } else {
            let reason = message::reason(&answer.reason, Reason::PathDenied);
            let lifted = reason == Reason::PathGenerationStale && self.sources.lift(answer.generation);
            // Another label or a higher generation is needed, and time is not.
            let again = lifted || reason == Reason::PathLabelInUse;
            if let Some(slot) = self.slot_of(id) {
                slot.at_once = again && slot.failures < AT_ONCE;
            }
            self.refused_path(id, reason, inputs);
        }
        self.tend_sources(inputs);
    }

    pub(crate) fn refused_path(&mut self, id: u64, reason: Reason, inputs: &mut PathInputs<'_>) {
        self.change(id, Change::Refused(reason), inputs);
        self.tend_sources(inputs);
    }

    pub(crate) fn unanswered(&mut self, id: u64, inputs: &mut PathInputs<'_>) {
        let Some(path) = self.sources.paths.get(&id) else { return };
        let rest = path.until.since(inputs.now.mono) / 4;
        let again_at = inputs.now.mono.plus(rest.max(Duration::from_secs(1)));
        self.change(id, Change::Unanswered { again_at }, inputs);
    }

    pub(crate) fn broken(&mut self, id: u64, reason: Reason, inputs: &mut PathInputs<'_>) {
        self.change(id, Change::Broken(reason), inputs);
        self.tend_sources(inputs);
    }

    pub(crate) fn source_due(&self) -> Option<Mono> {
        let paths = self.sources.paths.values().map(OwnPath::due);
        let starts =
            self.sources.destinations.values().flat_map(|destination| {
                SLOTS.into_iter().filter_map(|slot| self.start_at(destination, slot))
            });
        paths.chain(starts).min()
    }

    /// Does what is due for every path and destination.
    pub(crate) fn tend_sources(&mut self, inputs: &mut PathInputs<'_>) {
        let now = inputs.now.mono;
        let due: Vec<u64> =
            self.sources.paths.iter().filter(|(_, path)| path.due() <= now).map(|(id, _)| *id).collect();
        for id in due {
            let Some(path) = self.sources.paths.get(&id) else { continue };
            let change = if path.until <= now {
                Change::Expired
            } else {
                let destination = self.sources.destinations.get(&path.destination);
                Change::Due { used: destination.is_some_and(|destination| destination.is_active(now)) }
            };
            self.change(id, change, inputs);
        }
        let waiting = |destination: &Destination| {
            SLOTS.into_iter().any(|slot| self.start_at(destination, slot).is_some_and(|at| at <= now))
        };
        let ready = self.sources.destinations.iter().filter(|(_, destination)| waiting(destination));
        let ready: Vec<NodeId> = ready.map(|(node, _)| *node).collect();
        for node in ready {
            self.tend(node, inputs);
        }
    }

    /// When a path of this slot must be asked for; `None`: it is there, under way, or not wanted.
    fn start_at(&self, destination: &Destination, slot: PathSlot) -> Option<Mono> {
        let relays = destination.relays(slot)?;
        let used = destination.used?;
        let Slot { current, coming, ends, retry_at, .. } =
            destination.slots[usize::from(slot != PathSlot::Primary)];
        let path = current.and_then(|id| self.sources.paths.get(&id));
        if coming.is_some() || path.is_some_and(|path| !ends && path.relays() == *relays) {
            return None;
        }
        let primary = destination.slots[0];
        let first = slot == PathSlot::Primary || primary.current.is_some() || primary.failures > 0;
        let at = if first { retry_at } else { retry_at.max(destination.backup_at) };
        // Else nobody used it when the time comes.
        (at < used.plus(USED_TIME)).then_some(at)
    }

    fn tend(&mut self, node: NodeId, inputs: &mut PathInputs<'_>) {
        let now = inputs.now.mono;
        if let Some(idle) = self.sources.destinations.get_mut(&node).filter(|known| !known.is_active(now)) {
            idle.used = None;
        }
        for slot in SLOTS {
            let Some(destination) = self.sources.destinations.get(&node) else { return };
            if self.start_at(destination, slot).is_some_and(|at| at <= now) {
                let mut hops = destination.relays(slot).cloned().unwrap_or_default();
                hops.push(node);
                self.begin(node, slot, &hops, inputs);
            }
        }
    }

    fn begin(&mut self, node: NodeId, slot: PathSlot, hops: &[NodeId], inputs: &mut PathInputs<'_>) {
        let now = inputs.now.mono;
        let random = &mut *inputs.random;
        let mut label = || random().max(1);
        let hops: Vec<HopLabels> = hops
            .iter()
            .map(|node| HopLabels { node: *node, in_label: label(), back_out_label: label() })
            .collect();
        let mut path_id = [0; 16];
        path_id[..8].copy_from_slice(&label().to_be_bytes());
        path_id[8..].copy_from_slice(&label().to_be_bytes());
        let id = self.fresh_id();
        let first = hops[0];
        if !self.table.insert_own(id, first.node, first.in_label, first.back_out_label) {
            // One in 2^64: the next attempt takes other labels.
            return;
        }
        let generation = self.sources.generation();
        let until = now.plus(ANSWER_TIME * 2);
        let path = OwnPath { destination: node, slot, path_id, generation, hops, stage: Stage::Asked, until };
        self.sources.paths.insert(id, path);
        if let Some(destination) = self.sources.destinations.get_mut(&node) {
            destination.slot(slot).coming = Some(id);
        }
        self.ask(id, inputs);
    }

    fn ask(&mut self, id: u64, inputs: &PathInputs<'_>) {
        let request = self.fresh_id();
        let Some(path) = self.sources.paths.get(&id) else { return };
        let installs = installs(self.me, &self.terms, path, inputs.now.wall);
        let hops = path.hops.iter().map(|hop| hop.node).collect();
        let now = inputs.now.mono;
        let lifetime = Duration::from_secs(u64::from(self.terms.lifetime_s));
        let until = now.plus(lifetime).min(self.terms.end_of(self.me, path.destination));
        let to = path.first().node;
        self.requests.open(to, request, Asker::Own { path: id, until }, now.plus(ANSWER_TIME));
        self.output(PathOutput::Ask { hops, request, installs });
    }

    fn slot_of(&mut self, id: u64) -> Option<&mut Slot> {
        let path = self.sources.paths.get(&id)?;
        let destination = self.sources.destinations.get_mut(&path.destination)?;
        let slot = destination.slot(path.slot);
        (slot.current == Some(id) || slot.coming == Some(id)).then_some(slot)
    }

    /// Moves a path to its next stage and does what follows.
    fn change(&mut self, id: u64, change: Change, inputs: &mut PathInputs<'_>) {
        let now = inputs.now.mono;
        let Some(path) = self.sources.paths.get_mut(&id) else { return };
        let was_up = path.stage.is_up();
        let (stage, act) = path.stage.after(change);
        if let Some(stage) = stage {
            path.stage = stage;
        }
        let (peer, slot) = (path.destination, path.slot);
        match act {
            Act::Nothing => {}
            Act::Renew => self.ask(id, inputs),
            Act::Replace => {
                if let Some(slot) = self.slot_of(id) {
                    (slot.ends, slot.retry_at) = (true, now);
                }
            }
            Act::Announce => {
                let relays = path.relays();
                let before = self.slot_of(id).and_then(|slot| {
                    let before = slot.current.take();
                    *slot = Slot { current: Some(id), retry_at: now, ..Slot::default() };
                    before
                });
                self.tell(PathEvent::Up { end: PathEnd(id), peer, slot, relays });
                if let Some(before) = before {
                    self.change(before, Change::Replaced { leave_at: now.plus(DRAIN_TIME) }, inputs);
                }
            }
            Act::Fail(reason) => {
                let random = (inputs.random)();
                if let Some(slot) = self.slot_of(id) {
                    let at_once = std::mem::take(&mut slot.at_once);
                    slot.retry_at = if at_once { now } else { now.plus(retry(slot.failures, random)) };
                    slot.failures = slot.failures.saturating_add(1);
                }
                if let Some(path) = self.sources.paths.get(&id).filter(|_| reason == Reason::PathTimeout) {
                    // Hops behind the one that is silent may have it.
                    let (first, text) = (path.first().node, message::withdraw(path.path_id, path.generation));
                    self.send(first, FrameKind::PathWithdraw, text);
                }
                self.forget(id);
                self.count(reason);
                self.tell(PathEvent::Refused { peer, slot, reason });
            }
            Act::End(reason) => {
                self.forget(id);
                self.tell(PathEvent::Down { end: PathEnd(id), reason });
            }
            Act::Withdraw(reason) => {
                let (first, text) = (path.first().node, message::withdraw(path.path_id, path.generation));
                self.forget(id);
                self.send(first, FrameKind::PathWithdraw, text);
                if was_up {
                    self.tell(PathEvent::Down { end: PathEnd(id), reason });
                }
            }
        }
    }

    fn forget(&mut self, id: u64) {
        if let Some(slot) = self.slot_of(id) {
            slot.current = slot.current.filter(|current| *current != id);
            slot.coming = slot.coming.filter(|coming| *coming != id);
        }
        if let Some(path) = self.sources.paths.remove(&id) {
            let first = path.first();
            self.table.remove_own(first.node, first.in_label, first.back_out_label);
        }
    }
}

/// The installs of a path, in the order of its hops.
fn installs(me: NodeId, terms: &PathTerms, path: &OwnPath, issued_at: Wall) -> Vec<PathInstall> {
    let length = path.hops.len() as u8;
    let mut previous = me;
    (1..=length)
        .zip(&path.hops)
        .map(|(position, hop)| PathInstall {
            path_id: path.path_id,
            lane: LinkLane::C,
            generation: path.generation,
            source: me,
            destination: path.destination,
            organization: terms.organization,
            position,
            length,
            previous: std::mem::replace(&mut previous, hop.node),
            in_label: hop.in_label,
            back_out_label: hop.back_out_label,
            next: path.hops.get(usize::from(position)).map(|next| PathNext {
                node: next.node,
                out_label: next.in_label,
                back_in_label: next.back_out_label,
            }),
            rate_kbit: 0,
            lifetime_s: terms.lifetime_s,
            issued_at,
        })
        .collect()
}

/// When to renew a path that lives until `until`: at half of its life, 10 % earlier or later.
fn renewal(now: Mono, until: Mono, random: u64) -> Mono {
    let half = until.since(now) / 2;
    now.plus(half.mul_f64(0.9 + 0.2 * (random as f64 / u64::MAX as f64)))
}

/// Wait after a failure: doubles from 500 ms to 60 s, each step between half and all of it.
fn retry(failures: u32, random: u64) -> Duration {
    let full = RETRY_FIRST.saturating_mul(1 << failures.min(16)).min(RETRY_MAX);
    full.mul_f64(0.5 + 0.5 * (random as f64 / u64::MAX as f64))
}

/// A path is kept while a frame passed on it or on its sibling within this time.
const USED_TIME: Duration = Duration::from_secs(60);
/// The backup is asked for when the primary is up, and after this time in any case. Its generation is the higher one,
/// so it must not arrive first.
const BACKUP_WAIT: Duration = Duration::from_millis(250);
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// So many attempts follow each other without a pause.
const AT_ONCE: u32 = 3;
/// How far hops may lift the instance.
const LIFT_MAX: u32 = 1000;
