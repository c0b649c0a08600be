//! What one stream was told of the runtime directory, and what it is told next.
//!
//! Why this is sound: an entry is told when it changed, or when its node became a known peer. A node drops entries of
//! nodes whose records it does not hold, so nothing is told while an update waits for its acknowledgement, and the
//! peers that an update brought are told with the next entries.

use std::collections::BTreeSet;
use std::time::Duration;

use rap_planner::Delivery;
use rap_types::NodeId;
use rap_wire::v1;
use tokio::time::Instant;

use crate::serve::dial_hints::ClusterDirectory;

/// One stream's place in the directory of its cluster.
pub(super) struct DirectoryState {
    /// What changed up to here was told.
    from: u64,
    /// Peers that became known since.
    fresh: BTreeSet<NodeId>,
    due: bool,
    at: Instant,
}

/// What is to be told.
pub(super) enum DirectoryDue {
    /// These entries, now.
    Now(Vec<v1::DirectoryEntry>),
    /// Something, not before this instant.
    At(Instant),
    /// Nothing until something happens.
    Nothing,
}

impl DirectoryState {
    pub(super) fn new() -> Self {
        Self { from: 0, fresh: BTreeSet::new(), due: true, at: Instant::now() }
    }

    /// An entry of the cluster's directory changed.
    pub(super) const fn changed(&mut self) {
        self.due = true;
    }

    /// The node took an update with the records of these peers, or a whole one.
    pub(super) fn took(&mut self, new_peers: Option<Vec<NodeId>>) {
        match new_peers {
            Some(peers) => {
                self.due |= !peers.is_empty();
                self.fresh.extend(peers);
            }
            None => (self.from, self.due) = (0, true),
        }
    }

    /// What to tell at this instant.
    pub(super) fn next(
        &mut self,
        directory: &ClusterDirectory,
        delivery: &Delivery,
        now: Instant,
    ) -> DirectoryDue {
        if !self.due || !delivery.holds() || delivery.waits() {
            return DirectoryDue::Nothing;
        }
        if now < self.at {
            return DirectoryDue::At(self.at);
        }
        let (entries, sequence) = directory.since(self.from, &self.fresh, |peer| delivery.knows(peer));
        *self = Self { from: sequence, fresh: BTreeSet::new(), due: false, at: now + EVERY };
        if entries.is_empty() { DirectoryDue::Nothing } else { DirectoryDue::Now(entries) }
    }
}

const EVERY: Duration = Duration::from_millis(200);
