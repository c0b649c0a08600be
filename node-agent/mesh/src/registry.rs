//! One slot per desired peer: its status, its active link, its dialler.
//!
//! Owns which of several connections is the peer's link. Everything here is short and under one lock;
//! nothing waits.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rap_link::{Direction, Kept, keep_of_duplicates};
use rap_types::{Mono, NodeId, Reason};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::command::Command;
use crate::status::{LinkStatus, MeshEvent};

/// Slots of all desired peers.
#[derive(Debug)]
pub(crate) struct Registry {
    local: NodeId,
    slots: Mutex<BTreeMap<NodeId, Slot>>,
    events: broadcast::Sender<MeshEvent>,
    rejected: Mutex<BTreeMap<Reason, u64>>,
}

#[derive(Debug)]
struct Slot {
    status: LinkStatus,
    active: Option<Active>,
    /// `Some(since)` while there is no active link.
    vacant: watch::Sender<Option<Mono>>,
    stop: CancellationToken,
}

/// The connection that is the peer's link.
#[derive(Debug, Clone)]
pub(crate) struct Active {
    pub(crate) id: u64,
    pub(crate) direction: Direction,
    pub(crate) commands: mpsc::Sender<Command>,
    /// Cancelled when another connection takes over.
    pub(crate) replaced: CancellationToken,
}

/// A peer that came into the table.
#[derive(Debug)]
pub(crate) struct NewPeer {
    pub(crate) peer: NodeId,
    pub(crate) vacant: watch::Receiver<Option<Mono>>,
    pub(crate) stop: CancellationToken,
}

impl Registry {
    pub(crate) fn new(local: NodeId, events: broadcast::Sender<MeshEvent>) -> Self {
        Self { local, slots: Mutex::default(), events, rejected: Mutex::default() }
    }

    /// Makes slots for exactly these peers. Diallers of the others are stopped.
    pub(crate) fn retain<'a>(
        &self,
        desired: impl Iterator<Item = &'a NodeId>,
        now: Mono,
        parent: &CancellationToken,
    ) -> Vec<NewPeer> {
        let mut slots = self.slots();
        let mut before = std::mem::take(&mut *slots);
        let mut added = Vec::new();
        for peer in desired.filter(|peer| **peer != self.local) {
            let slot = before.remove(peer).unwrap_or_else(|| {
                let stop = parent.child_token();
                let (vacant, watched) = watch::channel(Some(now));
                added.push(NewPeer { peer: *peer, vacant: watched, stop: stop.clone() });
                Slot { status: LinkStatus::untried(*peer, now), active: None, vacant, stop }
            });
            slots.insert(*peer, slot);
        }
        for gone in before.into_values() {
            gone.stop.cancel();
            // The table denies its link at once; should the peer be back before the link looks, this ends it.
            if let Some(active) = gone.active {
                active.replaced.cancel();
            }
        }
        added
    }

    /// Offers an established connection as the peer's link. Of two, one stays; the other is told.
    pub(crate) fn admit(&self, peer: NodeId, new: Active) -> Result<(), Reason> {
        let mut slots = self.slots();
        let slot = slots.get_mut(&peer).ok_or(Reason::LinkPeerUnknown)?;
        if let Some(existing) = &slot.active {
            match keep_of_duplicates(self.local, peer, existing.direction, new.direction) {
                Kept::Existing => return Err(Reason::LinkDuplicate),
                Kept::New => existing.replaced.cancel(),
            }
        }
        slot.active = Some(new);
        slot.vacant.send_replace(None);
        Ok(())
    }

    /// The connection `id` is no longer the peer's link.
    pub(crate) fn release(&self, peer: NodeId, id: u64, now: Mono) {
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(&peer) else { return };
        if slot.active.as_ref().is_some_and(|active| active.id == id) {
            slot.active = None;
            slot.vacant.send_replace(Some(now));
        }
    }

    /// Takes what connection `id` says of itself, unless another connection is the peer's link.
    /// `left`: it was established and changes its state; told even if the peer left the table.
    pub(crate) fn report(&self, id: u64, status: LinkStatus, left: bool) {
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(&status.peer) else {
            if left {
                self.announce(&status);
            }
            return;
        };
        if slot.active.as_ref().is_some_and(|active| active.id != id) {
            return;
        }
        let changed = (slot.status.state, slot.status.reason) != (status.state, status.reason);
        slot.status = status;
        if changed {
            self.announce(&slot.status);
        }
    }

    pub(crate) fn commands(&self, peer: NodeId) -> Result<mpsc::Sender<Command>, Reason> {
        let slots = self.slots();
        let slot = slots.get(&peer).ok_or(Reason::LinkPeerUnknown)?;
        match &slot.active {
            Some(active) => Ok(active.commands.clone()),
            None => Err(slot.status.reason.unwrap_or(Reason::LinkUnreachable)),
        }
    }

    pub(crate) fn statuses(&self) -> Vec<LinkStatus> {
        self.slots().values().map(|slot| slot.status.clone()).collect()
    }

    /// An event without a state change. Nobody listening is no fault.
    pub(crate) fn tell(&self, event: MeshEvent) {
        let _nobody = self.events.send(event);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<MeshEvent> {
        self.events.subscribe()
    }

    pub(crate) fn reject(&self, reason: Reason, count: u64) {
        *self.rejected.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += count;
    }

    pub(crate) fn rejected(&self) -> BTreeMap<Reason, u64> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn announce(&self, status: &LinkStatus) {
        let LinkStatus { peer, state, reason, .. } = *status;
        self.tell(MeshEvent::State { peer, state, reason });
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<NodeId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
