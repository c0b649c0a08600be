//! What a source is told: plans, wishes, links, answers. `tending` does what follows.

use std::collections::BTreeMap;
use std::time::Duration;

use rap_contract::PATH_HOPS_MAX;
use rap_types::{Mono, NodeId, Reason};
use rap_wire::v1;

use crate::path::message;
use crate::path::own::Change;
use crate::path::paths::Paths;
use crate::path::sources::{Destination, SLOTS, Sources};
use crate::path::tending::renewal;
use crate::path::terms::{PathEnd, PathInputs, PathPlan, PathSlot, Verdict};

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
        let Sources { destinations, active, .. } = &mut self.sources;
        destinations.retain(|node, destination| match plans.remove(node) {
            Some(plan) => {
                destination.plan = plan;
                true
            }
            None => {
                active.remove(node);
                false
            }
        });
        let new = plans.into_iter().map(|(node, plan)| (node, Destination::new(plan)));
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
        if !known.is_active(now) {
            known.backup_at = now.plus(BACKUP_WAIT);
            known.slots.iter_mut().for_each(|slot| (slot.failures, slot.retry_at) = (0, now));
        }
        self.sources.use_paths(destination, now);
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
        let (peer, first, budget) = (path.destination, path.first(), path.hops.len() as u8);
        self.sources.use_paths(peer, now);
        Ok((first.node, first.in_label, budget))
    }

    /// The link with a neighbour is up: what waited for it is tried now.
    pub fn link_up(&mut self, node: NodeId, inputs: &mut PathInputs<'_>) {
        let now = inputs.now.mono;
        let Sources { destinations, active, .. } = &mut self.sources;
        for destination in active.iter() {
            let Some(destination) = destinations.get_mut(destination) else { continue };
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
        self.sources.use_paths(peer, now);
        Some(Verdict::Deliver { end: PathEnd(id), peer })
    }

    pub(crate) fn answered(
        &mut self,
        id: u64,
        until: Mono,
        answer: &v1::PathAnswer,
        inputs: &mut PathInputs<'_>,
    ) {
        if let Some(path) = self.sources.paths.get_mut(&id) {
            path.judged = true;
            path.passed =
                (!answer.reason.is_empty()).then(|| u8::try_from(answer.hops.len()).unwrap_or(u8::MAX));
        }
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
        let Some(path) = self.sources.paths.get_mut(&id) else { return };
        (path.judged, path.passed) = (true, None);
        let rest = path.until.since(inputs.now.mono) / 4;
        let again_at = inputs.now.mono.plus(rest.max(Duration::from_secs(1)));
        self.change(id, Change::Unanswered { again_at }, inputs);
    }

    pub(crate) fn broken(&mut self, id: u64, reason: Reason, inputs: &mut PathInputs<'_>) {
        self.change(id, Change::Broken(reason), inputs);
        self.tend_sources(inputs);
    }
}

/// The backup is asked for when the primary is up, and after this time in any case. Its generation is the higher one,
/// so it must not arrive first.
const BACKUP_WAIT: Duration = Duration::from_millis(250);
/// So many attempts follow each other without a pause.
const AT_ONCE: u32 = 3;
