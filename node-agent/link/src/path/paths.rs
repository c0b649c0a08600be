//! The core of one node: its labels, the paths that it carries, the paths that it sources.
//!
//! Owns how these work together, the timers, and what happens when terms change. `hop` and `source` have the rest.

use std::collections::{BTreeMap, VecDeque};

use rap_types::{Mono, NodeId, Reason};

use crate::frame::FrameKind;
use crate::path::budget::{Bucket, Buckets};
use crate::path::checks;
use crate::path::entry::Direction;
use crate::path::message;
use crate::path::requests::{Asker, Requests};
use crate::path::sources::Sources;
use crate::path::table::Table;
use crate::path::terms::{
    PathEnd, PathEvent, PathInputs, PathLimits, PathOutput, PathSlot, PathTerms, PathView,
};
use crate::path::unknown::UnknownLabels;

/// Every path that touches this node.
#[derive(Debug, Clone)]
pub struct Paths {
    pub(crate) me: NodeId,
    pub(crate) limits: PathLimits,
    pub(crate) terms: PathTerms,
    pub(crate) table: Table,
    pub(crate) requests: Requests,
    pub(crate) sources: Sources,
    pub(crate) installs: Bucket,
    pub(crate) installs_by_source: Buckets,
    pub(crate) verifications: Buckets,
    pub(crate) unknown: UnknownLabels,
    next_id: u64,
    outputs: VecDeque<PathOutput>,
    refused: BTreeMap<Reason, u64>,
}

impl Paths {
    /// A node without terms: it takes no install and makes no path.
    pub fn new(me: NodeId, limits: PathLimits, now: Mono) -> Self {
        let terms = PathTerms {
            organization: None,
            carries: None,
            lifetime_s: *rap_contract::PATH_LIFETIME.end(),
            instance: 0,
            deadline: now,
            known: BTreeMap::new(),
        };
        Self {
            me,
            limits,
            terms,
            table: Table::default(),
            requests: Requests::default(),
            sources: Sources::default(),
            installs: Bucket::full(limits.installs, now),
            installs_by_source: Buckets::default(),
            verifications: Buckets::default(),
            unknown: UnknownLabels::default(),
            next_id: 1,
            outputs: VecDeque::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Replaces the rules. Paths that they no longer permit end at once, and no path outlives what its ends may.
    pub fn set_terms(&mut self, terms: PathTerms, now: Mono) {
        self.sources.raise_instance(terms.instance);
        self.terms = terms;
        let (me, terms) = (self.me, &self.terms);
        let judged: Vec<_> = self
            .table
            .entries()
            .map(|(id, entry)| {
                let permitted = checks::permitted(me, terms, entry.source, entry.destination);
                (id, permitted.map(|()| entry.deadline.min(terms.end_of(entry.source, entry.destination))))
            })
            .collect();
        for (id, judged) in judged {
            match judged {
                Ok(deadline) => self.table.set_deadline(id, deadline),
                Err(_) => {
                    self.drop_entry(id, Reason::PathDenied, &[Direction::Forward, Direction::Back], now)
                }
            }
        }
    }

    /// Ends every path of a source whose leaf is of a revoked key generation, given the highest revoked one per node.
    pub fn revoke(&mut self, revoked: &BTreeMap<NodeId, u64>, now: Mono) {
        let is_revoked =
            |node: NodeId, generation| revoked.get(&node).is_some_and(|upto| generation <= *upto);
        let gone: Vec<u64> = self
            .table
            .entries()
            .filter(|(_, entry)| is_revoked(entry.source, entry.key_generation))
            .map(|(id, _)| id)
            .collect();
        for id in gone {
            self.drop_entry(id, Reason::NodeRevoked, &[Direction::Forward, Direction::Back], now);
        }
    }

    /// The link with a neighbour ended: so do all paths over it.
    pub fn link_lost(&mut self, node: NodeId, inputs: &mut PathInputs<'_>) {
        for request in self.requests.to(node) {
            self.not_passed(node, request, inputs);
        }
        let gone: Vec<_> = self
            .table
            .entries()
            .filter(|(_, entry)| entry.touches(node))
            .map(|(id, entry)| {
                (id, if entry.previous == node { Direction::Back } else { Direction::Forward })
            })
            .collect();
        for (id, broken) in gone {
            self.drop_entry(id, Reason::PathNextUnreachable, &[broken], inputs.now.mono);
        }
        self.first_hop_lost(node, inputs);
    }

    /// When to call [`Self::handle_timeout`].
    pub fn due(&self) -> Option<Mono> {
        [self.table.due(), self.requests.due(), self.sources.due()].into_iter().flatten().min()
    }

    /// Ends what is over and continues what is due.
    pub fn handle_timeout(&mut self, inputs: &mut PathInputs<'_>) {
        let now = inputs.now.mono;
        while let Some(asker) = self.requests.expired(now) {
            match asker {
                Asker::Own { path, .. } => self.unanswered(path, inputs),
                Asker::Neighbour { entry, renewal: None, .. } => {
                    self.drop_entry(entry, Reason::PathTimeout, &[], now);
                }
                Asker::Neighbour { renewal: Some(_), .. } => {}
            }
        }
        while let Some(id) = self.table.expired(now) {
            self.drop_entry(id, Reason::PathExpired, &[], now);
        }
        self.table.generations.forget(now);
        self.tend_sources(inputs);
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<PathOutput> {
        self.outputs.pop_front()
    }

    /// The ends of this node that are up, without those that a newer one replaced.
    pub fn ends(&self) -> Vec<PathView> {
        let answering = self.table.entries().filter(|(_, entry)| entry.installed && entry.next.is_none());
        let answering = answering.map(|(id, entry)| PathView {
            end: PathEnd(id),
            peer: entry.source,
            slot: PathSlot::Answering,
            relays: entry.relays(),
        });
        self.sources.up().chain(answering).collect()
    }

    /// True while the answer to a request is awaited. A request that is not open any more must not be sent.
    pub fn is_open(&self, to: NodeId, request: u64) -> bool {
        self.requests.is_open(to, request)
    }

    /// Paths that this node carries or ends.
    pub fn carried(&self) -> usize {
        self.table.len()
    }

    /// Installs and frames that were refused, by reason.
    pub fn refused(&self) -> &BTreeMap<Reason, u64> {
        &self.refused
    }

    pub(crate) fn count(&mut self, reason: Reason) {
        *self.refused.entry(reason).or_default() += 1;
    }

    /// A number that names nothing else of this core: a path, an end, a request.
    pub(crate) fn fresh_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    pub(crate) fn output(&mut self, output: PathOutput) {
        self.outputs.push_back(output);
    }

    pub(crate) fn tell(&mut self, event: PathEvent) {
        self.output(PathOutput::Tell(event));
    }

    pub(crate) fn send(&mut self, to: NodeId, kind: FrameKind, payload: Vec<u8>) {
        self.output(PathOutput::Send { to, kind, payload });
    }

    /// Ends a path that this node carries or ends, and says so to those who send into the `broken` directions.
    pub(crate) fn drop_entry(&mut self, id: u64, reason: Reason, broken: &[Direction], now: Mono) {
        let Some(entry) = self.table.remove(id, now) else { return };
        for (to, label) in broken.iter().filter_map(|direction| entry.origin(*direction)) {
            self.send(to, FrameKind::PathFault, message::fault(label, reason));
        }
        if entry.installed && entry.next.is_none() {
            self.tell(PathEvent::Down { end: PathEnd(id), reason });
        }
    }
}

impl PathTerms {
    /// Until when a path between these nodes may live.
    pub(crate) fn end_of(&self, source: NodeId, destination: NodeId) -> Mono {
        let ends = [source, destination].into_iter().filter_map(|end| self.known.get(&end));
        ends.map(|end| end.deadline).min().unwrap_or(self.deadline).min(self.deadline)
    }
}
