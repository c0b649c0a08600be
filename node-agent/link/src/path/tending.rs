//! What a source does: asks for paths, renews, replaces and withdraws them, and tries again.
//!
//! Owns the choice of labels and the waits after a failure. `own` has the transitions of one path.

use std::time::Duration;

use rap_contract::{PathInstall, PathNext};
use rap_types::{Mono, NodeId, Reason, Wall};
use rap_wire::v1::LinkLane;

use crate::frame::FrameKind;
use crate::path::message;
use crate::path::own::{Act, Change, DRAIN_TIME, HopLabels, OwnPath, Stage};
use crate::path::paths::Paths;
use crate::path::requests::Asker;
use crate::path::sources::{SLOTS, Slot};
use crate::path::terms::{ANSWER_TIME, PathEnd, PathEvent, PathInputs, PathOutput, PathSlot, PathTerms};

impl Paths {
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
        for node in self.sources.ready(now) {
            self.tend(node, inputs);
        }
    }

    pub(crate) fn tend(&mut self, node: NodeId, inputs: &mut PathInputs<'_>) {
        let now = inputs.now.mono;
        if let Some(idle) = self.sources.destinations.get_mut(&node).filter(|known| !known.is_active(now)) {
            idle.used = None;
            self.sources.active.remove(&node);
        }
        for slot in SLOTS {
            let Some(destination) = self.sources.destinations.get(&node) else { return };
            if self.sources.start_at(destination, slot).is_some_and(|at| at <= now) {
                let mut hops = destination.relays(slot).cloned().unwrap_or_default();
                hops.push(node);
                self.begin(node, slot, &hops, inputs);
            }
        }
    }

    fn begin(&mut self, node: NodeId, slot: PathSlot, hops: &[NodeId], inputs: &mut PathInputs<'_>) {
        let now = inputs.now.mono;
        if self.terms.end_of(self.me, node) <= now {
            return self.put_off(node, slot, Reason::PathExpired, inputs);
        }
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
        let stage = Stage::Asked;
        let path = OwnPath {
            destination: node,
            slot,
            path_id,
            generation,
            hops,
            stage,
            judged: false,
            passed: None,
            until,
        };
        self.sources.paths.insert(id, path);
        if let Some(destination) = self.sources.destinations.get_mut(&node) {
            destination.slot(slot).coming = Some(id);
        }
        self.ask(id, inputs);
    }

    /// Tries again later, without having asked.
    fn put_off(&mut self, peer: NodeId, slot: PathSlot, reason: Reason, inputs: &mut PathInputs<'_>) {
        let mut relays = Vec::new();
        if let Some(destination) = self.sources.destinations.get_mut(&peer) {
            relays = destination.relays(slot).cloned().unwrap_or_default();
            let slot = destination.slot(slot);
            slot.retry_at = inputs.now.mono.plus(retry(slot.failures, (inputs.random)()));
            slot.failures = slot.failures.saturating_add(1);
        }
        self.count(reason);
        self.tell(PathEvent::Refused { peer, slot, relays, by_hop: false, passed: None, reason });
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

    pub(crate) fn slot_of(&mut self, id: u64) -> Option<&mut Slot> {
        let path = self.sources.paths.get(&id)?;
        let destination = self.sources.destinations.get_mut(&path.destination)?;
        let slot = destination.slot(path.slot);
        (slot.current == Some(id) || slot.coming == Some(id)).then_some(slot)
    }

    /// Moves a path to its next stage and does what follows.
    pub(crate) fn change(&mut self, id: u64, change: Change, inputs: &mut PathInputs<'_>) {
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
                let (relays, by_hop, passed) = (path.relays(), path.judged, path.passed);
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
                self.tell(PathEvent::Refused { peer, slot, relays, by_hop, passed, reason });
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
pub(crate) fn renewal(now: Mono, until: Mono, random: u64) -> Mono {
    let half = until.since(now) / 2;
    now.plus(half.mul_f64(0.9 + 0.2 * (random as f64 / u64::MAX as f64)))
}

/// Wait after a failure: doubles from 500 ms to 60 s, each step between half and all of it.
fn retry(failures: u32, random: u64) -> Duration {
    let full = RETRY_FIRST.saturating_mul(1 << failures.min(16)).min(RETRY_MAX);
    full.mul_f64(0.5 + 0.5 * (random as f64 / u64::MAX as f64))
}

const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(60);
