//! Paths, as the user of a mesh sees them.

use std::collections::BTreeSet;

use rap_contract::RelayLink;
use rap_link::path::{PathEnd, PathEvent, PathPlan, PathTerms, PathView};
use rap_types::{NodeId, Reason};
use tokio::sync::mpsc;

use crate::mesh::Mesh;

impl Mesh {
    /// Replaces the rules and the plans of paths, both as a whole. Paths that the rules no longer permit end at once.
    /// A path whose relays changed in its plan stays until the new one is up.
    pub fn set_paths(&self, terms: PathTerms, plans: Vec<PathPlan>) {
        self.shared.relay_rows.set_instance(terms.carries.map(|_| terms.instance));
        self.shared.set_paths(terms, plans);
    }

    /// Takes rows of these relays alone, and speaks of links with them alone.
    pub fn set_relays(&self, relays: BTreeSet<NodeId>) {
        self.shared.relay_rows.state().relays = relays;
    }

    /// What relays say of their links and what counts now, by relay.
    pub fn relay_rows(&self) -> Vec<(NodeId, Vec<RelayLink>)> {
        self.shared.relay_rows.counting(self.shared.now().mono)
    }

    /// Takes links of at most so many peers that this node does not want a link with; more are refused with
    /// `link.capacity`. Links that stand stay.
    pub fn limit_attachments(&self, most: usize) {
        self.shared.registry.set_attachments_max(most);
    }

    /// Installs the planned paths to a node and keeps them while a frame passed within 60 s. [`PathEvent`]s say what
    /// becomes of it. Idempotent.
    ///
    /// # Errors
    /// `path.unknown`: no plan has this destination.
    pub fn want_path(&self, destination: NodeId) -> Result<(), Reason> {
        self.shared.want_path(destination)
    }

    /// Sends one WireGuard datagram of at most 16,381 bytes. Never waits.
    ///
    /// # Errors
    /// `path.unknown` if the path ended, `path.next_unreachable`, `link.queue_full`, `path.malformed` for its length.
    pub fn send_on_path(&self, end: PathEnd, datagram: &[u8]) -> Result<(), Reason> {
        self.send_group_on_path(end, &[datagram])
    }

    /// Sends WireGuard datagrams that were made at once in one frame: of each at most 16,381 bytes, with two bytes more
    /// for each at most 16,383 in all. Never waits; all are sent or none.
    ///
    /// # Errors
    /// As [`Self::send_on_path`].
    pub fn send_group_on_path(&self, end: PathEnd, datagrams: &[&[u8]]) -> Result<(), Reason> {
        self.shared.send_on_path(end, datagrams)
    }

    /// The paths of this node that are up, without those that a newer one replaced.
    pub fn paths(&self) -> Vec<PathView> {
        self.shared.fabric.ends()
    }

    /// Changes of paths, and what arrives on them. `None` if somebody took it before. A reader that falls behind loses
    /// datagrams first.
    pub fn path_events(&self) -> Option<mpsc::Receiver<PathEvent>> {
        self.shared.fabric.events()
    }
}
