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
