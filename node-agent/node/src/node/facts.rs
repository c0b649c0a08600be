//! What others may read of a node: the snapshot in use, its deadlines, contact and data plane.
//!
//! Owns the questions. Refuses to change anything.

use std::sync::Arc;

use rap_contract::{ASSIGNMENT_SLOT, Reject, VerifiedSnapshot, peer_slot, relays_slot};
use rap_trust::{Acceptor, ContactChange, DegradedContract, FreshnessState, Sense, contact_of};
use rap_types::{Activity, HeadOrder, NodeContact, NodeId, Now, Reason};
use rap_wire::v1;

use crate::{LinkCertificate, LinkWatch, Node, WayWatch};

impl Node {
    /// The acceptor, for status.
    pub const fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    /// What the control plane doubts about this node's identity.
    pub const fn identity_doubt(&self) -> Option<Reason> {
        self.uplink.doubt
    }

    /// The snapshot in use.
    pub fn snapshot(&self) -> Option<&Arc<VerifiedSnapshot>> {
        self.acceptor.active()
    }

    /// What of the snapshot in use is used.
    pub fn sense(&self) -> Option<&Arc<Sense>> {
        self.acceptor.sense()
    }

    /// Slots of the snapshot in use that make no sense, as they are reported. The own one is first, then relays.
    pub fn unused_slots(&self) -> impl Iterator<Item = v1::UnusedSlot> {
        let own = self.sense().and_then(|sense| sense.own_unused());
        let own = own.map(|what| (ASSIGNMENT_SLOT.to_owned(), what));
        let peers = self.sense().into_iter().flat_map(|sense| sense.unused());
        let relays = self.sense().into_iter().flat_map(|sense| sense.relays_unused());
        let relays = relays.map(|(owner, what)| (relays_slot(*owner), *what));
        let peers = peers.map(|(node, what)| (peer_slot(*node), *what));
        own.into_iter().chain(relays).chain(peers).map(|(slot, what)| {
            let reason = Reason::SnapshotPeerInvalid.code().to_owned();
            v1::UnusedSlot { slot, reason, what: what.to_owned() }
        })
    }

    /// True for a peer of the snapshot in use whose record is used.
    pub(super) fn is_used(&self, node: NodeId) -> bool {
        self.sense().is_some_and(|sense| sense.peer(node).is_some())
    }

    /// State of the snapshot in use at `now`.
    pub fn freshness_state(&self, now: Now) -> Option<FreshnessState> {
        self.freshness(now).map(|freshness| freshness.state(self.trusted(now)))
    }

    /// Order of the head in use if it is older than three quarters of its time: at half of it a head in order is
    /// replaced.
    pub fn stale_head(&self, now: Now) -> Option<HeadOrder> {
        let freshness = self.freshness(now)?;
        freshness.is_stale(self.trusted(now)).then(|| self.snapshot().map(|active| active.head().order))?
    }

    /// Contact with the control plane as this node sees it.
    pub fn contact(&self, now: Now) -> NodeContact {
        contact_of(self.uplink.stream, self.freshness_state(now))
    }

    /// The contact that was settled last, and since when.
    pub const fn contact_since(&self) -> ContactChange {
        self.uplink.contact_log.present()
    }

    /// The degraded-mode contract under the policy in use.
    pub fn contract(&self) -> DegradedContract {
        self.snapshot().map(|snapshot| DegradedContract::of(&snapshot.contents().policy)).unwrap_or_default()
    }

    /// Asks the degraded-mode contract, at the one place where an activity happens.
    ///
    /// # Errors
    /// `degraded.refused`.
    pub fn permit(&self, activity: Activity, now: Now) -> Result<(), Reject> {
        if self.contract().allows(self.freshness_state(now), activity) {
            return Ok(());
        }
        Err(Reject::new(Reason::DegradedRefused, activity.phrase()))
    }

    /// The leaf in use.
    pub const fn leaf(&self) -> Option<&LinkCertificate> {
        self.certificate.as_ref()
    }

    /// What the data plane reported last.
    pub const fn stats(&self) -> &v1::Stats {
        &self.plane.stats
    }

    /// Which wanted links are down, and since when.
    pub const fn links(&self) -> &LinkWatch {
        &self.plane.links
    }

    /// By which way traffic to each peer goes, and since when.
    pub const fn ways(&self) -> &WayWatch {
        &self.plane.ways
    }

    /// How far the control plane's clock is ahead of this host's, milliseconds; negative if it is behind. `None` before
    /// it said.
    pub const fn clock_skew_ms(&self) -> Option<i64> {
        self.uplink.skew_ms
    }

    /// True if no link is up for long while the control plane hears this node: its links are the fault, not its line.
    pub fn is_alone(&self, now: Now) -> bool {
        self.uplink.stream && self.plane.links.none_is_up(now.mono)
    }

    /// True while a data plane is there.
    pub const fn dataplane_up(&self) -> bool {
        self.plane.up
    }

    /// Version of the table published last, of the one applied, and why the last was refused.
    pub const fn table(&self) -> (u64, u64, Option<Reason>) {
        (self.plane.version, self.plane.applied, self.plane.refused)
    }

    /// The peer of this name or id.
    pub fn peer(&self, name_or_id: &str, now: Now) -> Option<NodeId> {
        if let Ok(id) = name_or_id.parse::<NodeId>() {
            return Some(id).filter(|id| self.is_peer(*id, now));
        }
        let named = self.sense()?.peers().find(|(_, peer)| peer.name == name_or_id).map(|(node, _)| node);
        named.or_else(|| {
            let permitted = self.permitted(now).into_iter().find(|peer| peer.record.name == name_or_id);
            NodeId::from_slice(&permitted?.record.node_id).ok()
        })
    }
}
