//! The connection and the status of each lane, by (peer, lane).
//!
//! Owns the desired peers with their dialling tasks, and which of several connections is a lane. Everything
//! here is short and under one lock. Nothing waits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rap_link::{Direction, Kept, Lane, keep_of_duplicates};
use rap_types::{Digest, Mono, NodeId, Reason};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::command::Command;
use crate::inbox::Inbox;
use crate::on_demand::{Carrier, Lanes, OnDemand, Standing};
use crate::status::{LinkStatus, MeshEvent};

/// All desired peers and their links.
#[derive(Debug)]
pub(crate) struct Registry {
    local: NodeId,
    state: Mutex<State>,
    events: broadcast::Sender<MeshEvent>,
    rejected: Mutex<BTreeMap<Reason, u64>>,
    attachments_max: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    diallers: BTreeMap<NodeId, Dialler>,
    /// Lane A of every desired peer. Other lanes only while they have a connection.
    links: BTreeMap<(NodeId, Lane), Slot>,
}

/// Handle to the task that dials lane A of one peer.
#[derive(Debug)]
struct Dialler {
    /// `Some(since)` while lane A has no connection.
    vacant: watch::Sender<Option<Mono>>,
    demand: watch::Sender<Demand>,
    stop: CancellationToken,
}

/// Somebody needs the link now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) since: Mono,
    pub(crate) until: Mono,
}

/// The way to a peer over lane A.
#[derive(Debug)]
pub(crate) enum Route {
    /// Frames of paths are taken here.
    Linked(Arc<Inbox>),
    /// Known, and not linked.
    Vacant,
    /// Unknown, or its release knows no paths.
    None,
}

#[derive(Debug)]
struct Slot {
    status: LinkStatus,
    active: Option<Active>,
}

/// The connection that is one lane of the link with a peer.
#[derive(Debug, Clone)]
pub(crate) struct Active {
    pub(crate) id: u64,
    pub(crate) direction: Direction,
    pub(crate) commands: mpsc::Sender<Command>,
    /// Cancelled when another connection takes over.
    pub(crate) replaced: CancellationToken,
    /// Head in the hello of the peer. May be empty.
    pub(crate) head: Bytes,
    /// The peer wants this link and this node does not.
    pub(crate) attached: bool,
    pub(crate) session_id: [u8; 16],
    /// Address of the peer.
    pub(crate) remote: Option<SocketAddr>,
    /// Lane A, if the peer knows paths.
    pub(crate) inbox: Option<Arc<Inbox>>,
    /// Lane A, if both sides know lanes.
    pub(crate) lanes: Option<Lanes>,
    /// Fingerprints of the authorities of both leaves: the own one and the peer's.
    pub(crate) authorities: [Option<Digest>; 2],
}

/// A peer that is newly desired, with the inputs of its dialling task.
#[derive(Debug)]
pub(crate) struct NewPeer {
    pub(crate) peer: NodeId,
    pub(crate) vacant: watch::Receiver<Option<Mono>>,
    pub(crate) demand: watch::Receiver<Demand>,
    pub(crate) stop: CancellationToken,
}

impl Active {
    /// Ends the connection, and the lanes that belong to it.
    fn give_way(&self) {
        self.replaced.cancel();
        if let Some(lanes) = &self.lanes {
            lanes.end();
        }
    }
}

impl Registry {
    pub(crate) fn new(local: NodeId, events: broadcast::Sender<MeshEvent>) -> Self {
        let attachments_max = AtomicUsize::new(usize::MAX);
        Self { local, state: Mutex::default(), events, rejected: Mutex::default(), attachments_max }
    }

    /// Keeps exactly these peers and returns the new ones. Dialling tasks and connections of all others are
    /// stopped.
    pub(crate) fn retain<'a>(
        &self,
        desired: impl Iterator<Item = &'a NodeId>,
        now: Mono,
        parent: &CancellationToken,
    ) -> Vec<NewPeer> {
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.diallers);
        let mut added = Vec::new();
        for peer in desired.filter(|peer| **peer != self.local) {
            let dialler = before.remove(peer).unwrap_or_else(|| {
                let stop = parent.child_token();
                let (vacant, watched) = watch::channel(Some(now));
                let (demand, asked) = watch::channel(Demand::default());
                added.push(NewPeer { peer: *peer, vacant: watched, demand: asked, stop: stop.clone() });
                let status = LinkStatus::untried(*peer, now);
                state.links.insert((*peer, Lane::A), Slot { status, active: None });
                Dialler { vacant, demand, stop }
            });
            state.diallers.insert(*peer, dialler);
        }
        before.values().for_each(|gone| gone.stop.cancel());
        let State { diallers, links } = &mut *state;
        links.retain(|(peer, _), slot| {
            let stays = diallers.contains_key(peer);
            // The permit of the peer ends the connection. If the peer is desired again before that is read, this does.
            if let Some(active) = slot.active.as_ref().filter(|_| !stays) {
                active.give_way();
            }
            stays
        });
        added
    }

    /// How many attached peers are taken. Those that are linked stay.
    pub(crate) fn set_attachments_max(&self, most: usize) {
        self.attachments_max.store(most, Ordering::Relaxed);
    }

    /// Makes an established connection the lane. If the lane has a connection, one of the two stays and the
    /// other is closed; lanes B and C end with the connection of lane A. Returns the lane if it is one of those.
    ///
    /// # Errors
    /// `link.peer_unknown`, `link.capacity`, `link.duplicate` if the present connection stays, `link.state` for lane
    /// B or C of another session than lane A.
    pub(crate) fn admit(
        &self,
        peer: NodeId,
        lane: Lane,
        new: Active,
        now: Mono,
    ) -> Result<Option<Arc<OnDemand>>, Reason> {
        let mut state = self.state();
        let State { diallers, links } = &mut *state;
        let dialler = diallers.get(&peer).ok_or(Reason::LinkPeerUnknown)?;
        let is_new = links.get(&(peer, lane)).is_none_or(|slot| slot.active.is_none());
        if new.attached && is_new && lane == Lane::A {
            let attached = |slot: &Slot| slot.active.as_ref().is_some_and(|active| active.attached);
            let count = links.iter().filter(|((_, lane), slot)| *lane == Lane::A && attached(slot)).count();
            if count >= self.attachments_max.load(Ordering::Relaxed) {
                return Err(Reason::LinkCapacity);
            }
        }
        let mut on_demand = None;
        if lane != Lane::A {
            let first = links.get(&(peer, Lane::A)).and_then(|slot| slot.active.as_ref());
            let same =
                |first: &&Active| (first.session_id, first.direction) == (new.session_id, new.direction);
            let first = first.filter(same).ok_or(Reason::LinkState)?;
            on_demand = first.lanes.as_ref().and_then(|lanes| lanes.get(lane)).cloned();
        }
        let untried = || Slot { status: LinkStatus { lane, ..LinkStatus::untried(peer, now) }, active: None };
        let slot = links.entry((peer, lane)).or_insert_with(untried);
        if let Some(existing) = &slot.active {
            match keep_of_duplicates(self.local, peer, existing.direction, new.direction) {
                Kept::Existing => return Err(Reason::LinkDuplicate),
                Kept::New => existing.give_way(),
            }
        }
        slot.active = Some(new);
        if lane == Lane::A {
            dialler.vacant.send_replace(None);
        }
        if let Some(on_demand) = &on_demand {
            on_demand.opened();
        }
        Ok(on_demand)
    }

    /// Takes connection `id` out of use. No effect if another connection is the lane. Returns how many frames waited
    /// for lane B or C.
    pub(crate) fn release(&self, peer: NodeId, lane: Lane, id: u64, now: Mono) -> u64 {
        let mut state = self.state();
        let State { diallers, links } = &mut *state;
        let Some(slot) = links.get_mut(&(peer, lane)) else { return 0 };
        if slot.active.as_ref().is_none_or(|active| active.id != id) {
            return 0;
        }
        if let Some(active) = slot.active.take() {
            active.give_way();
        }
        if lane == Lane::A {
            if let Some(dialler) = diallers.get(&peer) {
                dialler.vacant.send_replace(Some(now));
            }
            return 0;
        }
        links.remove(&(peer, lane));
        let first = links.get(&(peer, Lane::A)).and_then(|slot| slot.active.as_ref());
        first.and_then(|first| first.lanes.as_ref()?.get(lane)).map_or(0, |on_demand| on_demand.closed())
    }

    /// Takes the status of connection `id`, unless another connection is the lane. `left`: the connection was
    /// established and its state changed, which is announced even if the peer is no longer desired.
    pub(crate) fn report(&self, id: u64, status: LinkStatus, left: bool) {
        let mut state = self.state();
        let Some(slot) = state.links.get_mut(&(status.peer, status.lane)) else {
            if left {
                self.announce(&status);
            }
            return;
        };
        if slot.active.as_ref().is_some_and(|active| active.id != id) {
            return;
        }
        let told = |status: &LinkStatus| (status.state, status.reason, status.measured);
        let changed = told(&slot.status) != told(&status);
        slot.status = status;
        if changed {
            self.announce(&slot.status);
        }
    }

    /// Command queue of lane A.
    ///
    /// # Errors
    /// `link.peer_unknown`, or the reason why lane A has no connection.
    pub(crate) fn commands(&self, peer: NodeId) -> Result<mpsc::Sender<Command>, Reason> {
        let state = self.state();
        let slot = state.links.get(&(peer, Lane::A)).ok_or(Reason::LinkPeerUnknown)?;
        match &slot.active {
            Some(active) => Ok(active.commands.clone()),
            None => Err(slot.status.reason.unwrap_or(Reason::LinkUnreachable)),
        }
    }

    /// The way to a peer now.
    pub(crate) fn route(&self, peer: NodeId) -> Route {
        let state = self.state();
        match state.links.get(&(peer, Lane::A)).map(|slot| &slot.active) {
            Some(Some(Active { inbox: Some(inbox), .. })) => Route::Linked(inbox.clone()),
            Some(None) => Route::Vacant,
            Some(Some(Active { inbox: None, .. })) | None => Route::None,
        }
    }

    /// What carries the data of a lane to a peer now.
    pub(crate) fn carrier(&self, peer: NodeId, lane: Lane) -> Carrier {
        let state = self.state();
        let first = state.links.get(&(peer, Lane::A)).and_then(|slot| slot.active.as_ref());
        match first {
            Some(Active { inbox: Some(inbox), lanes, .. }) => {
                match lanes.as_ref().and_then(|lanes| lanes.get(lane)) {
                    Some(on_demand) => Carrier::OnDemand(on_demand.clone()),
                    None => Carrier::Stands(inbox.clone()),
                }
            }
            Some(Active { inbox: None, .. }) | None => Carrier::None,
        }
    }

    /// The connection of lane A.
    pub(crate) fn standing(&self, peer: NodeId) -> Option<Standing> {
        let state = self.state();
        let Active { direction, session_id, remote, .. } =
            *state.links.get(&(peer, Lane::A))?.active.as_ref()?;
        Some(Standing { direction, session_id, remote })
    }

    /// Asks for a link with a known peer until `until`, and returns once there is one or the peer is known no more.
    pub(crate) async fn demand(&self, peer: NodeId, demand: Demand) {
        let vacant = self.state().diallers.get(&peer).map(|dialler| {
            dialler.demand.send_replace(demand);
            dialler.vacant.subscribe()
        });
        if let Some(mut vacant) = vacant {
            let _gone = vacant.wait_for(Option::is_none).await;
        }
    }

    /// Peers with a lane A that this node dialled and that stands on a leaf of this authority, with what ends their
    /// dialling.
    pub(crate) fn dialled_by(&self, authority: Digest) -> Vec<(NodeId, CancellationToken)> {
        let state = self.state();
        let stands = |(peer, dialler): (&NodeId, &Dialler)| {
            let active = state.links.get(&(*peer, Lane::A))?.active.as_ref()?;
            let by = active.direction == Direction::Outbound && active.authorities.contains(&Some(authority));
            by.then(|| (*peer, dialler.stop.clone()))
        };
        state.diallers.iter().filter_map(stands).collect()
    }

    pub(crate) fn statuses(&self) -> Vec<LinkStatus> {
        self.state().links.values().map(|slot| slot.status.clone()).collect()
    }

    /// Heads in the hellos of live connections, by node id; no empty ones.
    pub(crate) fn heads(&self) -> Vec<(NodeId, Bytes)> {
        let state = self.state();
        let live = |(key, slot): (&(NodeId, Lane), &Slot)| Some((key.0, slot.active.as_ref()?.head.clone()));
        state.links.iter().filter_map(live).filter(|(_, head)| !head.is_empty()).collect()
    }

    /// Sends an event. There may be no receiver.
    pub(crate) fn tell(&self, event: MeshEvent) {
        let _nobody = self.events.send(event);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<MeshEvent> {
        self.events.subscribe()
    }

    pub(crate) fn reject(&self, reason: Reason, count: u64) {
        if count > 0 {
            *self.rejected.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += count;
        }
    }

    pub(crate) fn rejected(&self) -> BTreeMap<Reason, u64> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn announce(&self, status: &LinkStatus) {
        let LinkStatus { peer, lane, state, reason, measured, .. } = *status;
        self.tell(MeshEvent::Observed { peer, lane, state, reason, measured });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
