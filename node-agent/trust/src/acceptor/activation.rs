//! What counts of a verified snapshot, and from when on: revocations at once, everything else once it is on disk.

use std::sync::Arc;

use rap_contract::{HeadFacts, VerifiedSnapshot};
use rap_types::Now;
use rap_wire::v1;

use super::{Acceptor, Output, PersistId, Restriction, floors};
use crate::Sense;

impl Acceptor {
    /// What a verified trust set revokes beyond the snapshot in use counts at once.
    pub(super) fn restrict(&mut self, head: &HeadFacts, trust: Option<Arc<v1::TrustChunk>>) {
        let (Some(trust), Some(active)) = (trust, &self.active) else { return };
        let more = floors::revokes_more(head, &trust, active);
        if more && self.floors.check_revocations(head, &trust).is_ok() {
            self.outputs.push_back(Output::Restrict(Restriction { order: head.order, trust }));
        }
    }

    /// Takes what verified again after a start. What was acknowledged is in use at once, though a later one that nobody
    /// acknowledged is stored, and though the disk takes no floor for that one.
    pub(super) fn take_stored(&mut self, verified: &[Arc<VerifiedSnapshot>], now: Now) {
        let order = |snapshot: &&Arc<VerifiedSnapshot>| snapshot.head().order;
        // What an authority signed before it was replaced raises no floor of its successor.
        let raises_none = |snapshot: &&Arc<VerifiedSnapshot>| {
            self.floors.raised_to(snapshot) == self.floors || !self.pinned.is_by_present_authority(snapshot)
        };
        let settled = verified.iter().filter(raises_none).max_by_key(order).cloned();
        let newest = verified.iter().max_by_key(order).cloned();
        for snapshot in [&settled, &newest].into_iter().flatten() {
            self.clock.raise(snapshot.head().issued_at, now);
        }
        if let Some(settled) = settled.clone() {
            self.base = Some(settled.clone());
            self.activate(settled);
        }
        let Some(newest) =
            newest.filter(|newest| settled.as_ref().map(|s| s.head().order) != Some(newest.head().order))
        else {
            return;
        };
        self.restrict(&newest.head().clone(), Some(newest.contents().trust.clone()));
        self.commit(self.floors.raised_to(&newest), newest, false);
    }

    pub(super) fn activate(&mut self, snapshot: Arc<VerifiedSnapshot>) {
        let (before, given) = (self.sense.as_deref(), self.pinned.addresses.as_ref());
        self.sense = Some(Arc::new(Sense::of(snapshot.contents(), before, given)));
        self.active = Some(snapshot.clone());
        self.outputs.push_back(Output::Activate(snapshot));
    }

    pub(super) fn persisted(&mut self, id: PersistId, now: Now) {
        while self.outstanding.front().is_some_and(|first| first.id <= id) {
            let Some(done) = self.outstanding.pop_front() else { return };
            if let Some(chain) = done.chain {
                self.pin(chain);
            }
            let Some(snapshot) = done.snapshot else { continue };
            self.activate(snapshot);
            self.acknowledge(now);
        }
    }

    pub(super) fn acknowledge(&mut self, now: Now) {
        let Some(active) = &self.active else { return };
        let order = active.head().order;
        self.outputs.push_back(Output::Acknowledge(v1::SnapshotAck {
            leaf_hash: active.leaf_hash().to_vec(),
            incarnation: order.incarnation.0,
            version: order.version.0,
            refresh: order.refresh.0,
            applied_at_ms: self.clock.wall(now).0,
        }));
    }
}
