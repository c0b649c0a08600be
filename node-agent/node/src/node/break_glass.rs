//! Break-glass grants within a node: what they change in its table, and what the control plane is told.

use rap_contract::Reject;
use rap_trust::{Admission, BreakGlassView, Freshness, PermittedPeer, StoredBreakGlass};
use rap_types::{Mono, NodeId, Now, Wall};
use rap_wire::v1;
use v1::node_message::Body;

use crate::{Node, Output};

impl Node {
    /// Judges a break-glass grant. Nothing changes before [`crate::Input::BreakGlassStored`].
    ///
    /// # Errors
    /// The errors of [`rap_trust::BreakGlass::judge`].
    pub fn judge_grant(&self, text: &str, now: Now) -> Result<Admission, Reject> {
        let contents = self.snapshot().map(|snapshot| snapshot.contents());
        self.break_glass.judge(text, contents, self.trusted(now))
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
        let contents = self.snapshot().map(|snapshot| snapshot.contents());
        contents.map(|contents| self.break_glass.permitted(contents, self.trusted(now))).unwrap_or_default()
    }

    /// Deadlines of the snapshot in use, extended by grants.
    pub fn freshness(&self, now: Now) -> Option<Freshness> {
        self.snapshot().map(|snapshot| Freshness::of(snapshot).extended(self.extension(now)))
    }

    pub(super) fn is_peer(&self, node: NodeId, now: Now) -> bool {
        let known = self.snapshot().is_some_and(|snapshot| snapshot.contents().peers.contains_key(&node));
        known || self.permitted(now).iter().any(|peer| peer.record.node_id == node.as_bytes())
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
