//! Requests that this node passed on and that are not answered.
//!
//! Owns their deadlines and how many one neighbour may have.

use std::collections::{BTreeMap, BTreeSet};

use rap_types::{Mono, NodeId, Reason, Wall};

use crate::path::terms::PathLimits;

/// For whom a request was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// For a path of this node.
    Own {
        /// The path.
        path: u64,
        /// End of its lifetime if the answer is good.
        until: Mono,
    },
    /// For a neighbour.
    Neighbour {
        /// The node before this one.
        node: NodeId,
        /// The `request_id` that this neighbour used; the answer to it carries the same.
        request: u64,
        /// The path.
        entry: u64,
        /// What a good answer changes, if the path was installed before.
        renewal: Option<Renewal>,
    },
}

/// What a renewal changes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Renewal {
    pub(crate) deadline: Mono,
    pub(crate) issued_at: Wall,
    pub(crate) key_generation: u64,
}

/// Open requests, by the node that was asked and the name of the request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests {
    open: BTreeMap<(NodeId, u64), (Asker, Mono)>,
    deadlines: BTreeSet<(Mono, NodeId, u64)>,
    per_neighbour: BTreeMap<NodeId, usize>,
}

impl Requests {
    /// Whether a neighbour may have one more.
    pub(crate) fn has_room(&self, neighbour: NodeId, limits: &PathLimits) -> Result<(), Reason> {
        let own = self.per_neighbour.get(&neighbour).copied().unwrap_or(0);
        let full = own >= limits.requests_per_neighbour || self.open.len() >= limits.requests;
        if full { Err(Reason::PathCapacity) } else { Ok(()) }
    }

    pub(crate) fn open(&mut self, to: NodeId, request: u64, asker: Asker, deadline: Mono) {
        if let Asker::Neighbour { node, .. } = asker {
            *self.per_neighbour.entry(node).or_default() += 1;
        }
        self.open.insert((to, request), (asker, deadline));
        self.deadlines.insert((deadline, to, request));
    }

    pub(crate) fn is_open(&self, to: NodeId, request: u64) -> bool {
        self.open.contains_key(&(to, request))
    }

    /// Open requests to a node.
    pub(crate) fn to(&self, node: NodeId) -> Vec<u64> {
        self.open.range((node, 0)..=(node, u64::MAX)).map(|((_, request), _)| *request).collect()
    }

    /// Ends a request, if it is open.
    pub(crate) fn close(&mut self, to: NodeId, request: u64) -> Option<Asker> {
        let (asker, deadline) = self.open.remove(&(to, request))?;
        self.deadlines.remove(&(deadline, to, request));
        if let Asker::Neighbour { node, .. } = asker
            && let Some(count) = self.per_neighbour.get_mut(&node)
        {
            *count -= 1;
            if *count == 0 {
                self.per_neighbour.remove(&node);
            }
        }
        Some(asker)
    }

    /// Ends a request whose deadline has come.
    pub(crate) fn expired(&mut self, now: Mono) -> Option<Asker> {
        let (_, to, request) = self.deadlines.first().copied().filter(|(deadline, ..)| *deadline <= now)?;
        self.close(to, request)
    }

    pub(crate) fn due(&self) -> Option<Mono> {
        self.deadlines.first().map(|(deadline, ..)| *deadline)
    }
}
