//! Break-glass grants within a node: what they change in its table, and what the control plane is told.

use std::sync::Arc;

use rap_contract::Reject;
use rap_trust::{Admission, BreakGlassView, Freshness, PermittedPeer, StoredBreakGlass};
use rap_types::{Digest, Mono, NodeId, Now, Wall};
use rap_wire::v1;
use v1::node_message::Body;

use crate::{Node, Output};

impl Node {
    /// Judges a break-glass grant. Nothing changes before [`crate::Input::BreakGlassStored`].
    ///
    /// # Errors
    /// The errors of [`rap_trust::BreakGlass::judge`].
    pub fn judge_grant(&self, text: &str, now: Now) -> Result<Admission, Reject> {
        self.break_glass.judge(text, self.sense().map(Arc::as_ref), self.trusted(now))
    }

    /// An operator of this host ends a grant: from now on it permits nothing. What is to be on disk follows.
    ///
    /// # Errors
    /// `break_glass.absent`.
    pub fn discard_grant(&mut self, named: &str, now: Now) -> Result<Digest, Reject> {
        let digest = self.break_glass.discard(named)?;
        self.publish(now);
        Ok(digest)
    }

    /// What is to be on disk of break-glass files.
    pub fn stored_break_glass(&self) -> StoredBreakGlass {
        self.break_glass.stored()
    }

    /// Grants that are held, for status.
    pub fn grants(&self) -> impl Iterator<Item = BreakGlassView<'_>> {
        self.break_glass.views()
    }

    /// Until when degraded mode lasts by a grant.
    pub fn extension(&self, now: Now) -> Option<Wall> {
        self.break_glass.extends_degraded(self.trusted(now))
    }

    /// Peers that grants admit now.
    pub fn permitted(&self, now: Now) -> Vec<PermittedPeer> {
        self.sense().map(|sense| self.break_glass.permitted(sense, self.trusted(now))).unwrap_or_default()
    }

    /// Deadlines of the snapshot in use, extended by grants.
    pub fn freshness(&self, now: Now) -> Option<Freshness> {
        self.snapshot().map(|snapshot| Freshness::of(snapshot).extended(self.extension(now)))
    }

    pub(super) fn is_peer(&self, node: NodeId, now: Now) -> bool {
        self.is_used(node) || self.permitted(now).iter().any(|peer| peer.record.node_id == node.as_bytes())
    }

    pub(super) fn grant_stored(&mut self, admission: Admission, now: Now) {
        self.break_glass.install(admission);
        self.publish(now);
        self.tell_grants();
    }

    /// Tells what the control plane has not confirmed yet; it takes each into its audit log once.
    pub(super) fn tell_grants(&mut self) {
        let untold: Vec<v1::BreakGlassUse> = self.break_glass.untold().collect();
        for told in untold {
            self.send(Body::BreakGlass(told));
        }
    }

    pub(super) fn grant_acknowledged(&mut self, ack: &v1::BreakGlassAck) {
        if self.break_glass.acknowledge(&ack.digest) {
            self.outputs.push_back(Output::PersistBreakGlass);
        }
    }

    pub(super) fn next_grant_end(&self, now: Now) -> Option<Mono> {
        let end = self.break_glass.next_end(self.trusted(now))?;
        Some(self.acceptor.clock().mono_of(end, now))
    }

    pub(super) fn trusted(&self, now: Now) -> Wall {
        self.acceptor.clock().wall(now)
    }
}
