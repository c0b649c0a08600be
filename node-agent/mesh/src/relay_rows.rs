//! The rows that one mesh knows, and whether it says one itself.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rap_contract::RelayLink;
use rap_link::Rows;
use rap_types::{Mono, NodeId};

/// The rows of one mesh.
#[derive(Debug, Default)]
pub(crate) struct RelayRows(Mutex<State>);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) rows: Rows,
    pub(crate) relays: BTreeSet<NodeId>,
    /// Upper half of the sequences of a node that carries for others; absent: it does not.
    pub(crate) instance: Option<u32>,
    pub(crate) said: u32,
}

impl RelayRows {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `instance`: that of a node that carries for others.
    pub(crate) fn set_instance(&self, instance: Option<u32>) {
        let mut state = self.state();
        state.instance = instance;
        if instance.is_none() {
            state.rows.be_silent();
        }
    }

    /// What relays say of their links and what counts now, by relay.
    pub(crate) fn counting(&self, now: Mono) -> Vec<(NodeId, Vec<RelayLink>)> {
        self.state().rows.counting(now).map(|(relay, links)| (relay, links.to_vec())).collect()
    }
}
