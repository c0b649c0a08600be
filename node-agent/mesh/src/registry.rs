//! The connection and the status of each lane, by (peer, lane).
//!
//! Owns the desired peers with their dialling tasks, and which of several connections is a lane. Everything
//! here is short and under one lock. Nothing waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rap_link::{Kept, Lane, keep_of_duplicates};
use rap_types::{Digest, Mono, NodeId, Reason};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::active::{Active, Renewal};
use crate::command::Command;
use crate::inbox::Inbox;
use crate::on_demand::{Carrier, OnDemand, Standing};
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
    /// When lane A is made anew next, and how often that was tried since it was made.
    renewal: (Mono, u32),
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
    /// Ends the connection that gave way last.
    former: CancellationToken,
}

impl Slot {
    fn new(status: LinkStatus) -> Self {
        Self { status, active: None, former: CancellationToken::new() }
    }
}

/// A peer that is newly desired, with the inputs of its dialling task.
#[derive(Debug)]
pub(crate) struct NewPeer {
    pub(crate) peer: NodeId,
    pub(crate) vacant: watch::Receiver<Option<Mono>>,
    pub(crate) demand: watch::Receiver<Demand>,
    pub(crate) stop: CancellationToken,
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
                state.links.insert((*peer, Lane::A), Slot::new(status));
                Dialler { vacant, demand, stop, renewal: (Mono(0), 0) }
            });
            state.diallers.insert(*peer, dialler);
        }
        before.values().for_each(|gone| gone.stop.cancel());
        let State { diallers, links } = &mut *state;
        links.retain(|(peer, _), slot| {
            let stays = diallers.contains_key(peer);
            // The permit of the peer ends the connection. If the peer is desired again before that is read, this does.
            if !stays {
                slot.former.cancel();
                slot.active.iter().for_each(Active::end);
            }
            stays
        });
        added
    }

    /// How many attached peers are taken. Those that are linked stay.
    pub(crate) fn set_attachments_max(&self, most: usize) {
        self.attachments_max.store(most, Ordering::Relaxed);
    }

    /// Makes an established connection the lane. If the lane has a connection, one of the two stays. The new one is
    /// refused, or the present one gives way; its lanes B and C do so when those of the new session are opened.
    /// Returns the lane if it is one of those.
    ///
    /// # Errors
    /// `link.peer_unknown`, `link.capacity`, `link.duplicate` if the present connection stays, `link.state` for lane
    /// B or C of another session than lane A.
    pub(crate) fn admit(
        &self,
        peer: NodeId,
        lane: Lane,
        mut new: Active,
        now: Mono,
    ) -> Result<Option<Arc<OnDemand>>, Reason> {
        let mut state = self.state();
        let State { diallers, links } = &mut *state;
        let dialler = diallers.get_mut(&peer).ok_or(Reason::LinkPeerUnknown)?;
        let is_new = links.get(&(peer, lane)).is_none_or(|slot| slot.active.is_none());
        if new.attached && is_new && lane == Lane::A {
            let attached = |slot: &Slot| slot.active.as_ref().is_some_and(|active| active.attached);
            let count = links.iter().filter(|((_, lane), slot)| *lane == Lane::A && attached(slot)).count();
            if count >= self.attachments_max.load(Ordering::Relaxed) {
                return Err(Reason::LinkCapacity);
            }
        }
        if lane != Lane::A {
            let first = links.get(&(peer, Lane::A)).and_then(|slot| slot.active.as_ref());
            let same =
                |first: &&Active| (first.session_id, first.direction) == (new.session_id, new.direction);
            let first = first.filter(same).ok_or(Reason::LinkState)?;
            new.on_demand = first.lanes.as_ref().and_then(|lanes| lanes.get(lane)).cloned();
        }
        let untried = || Slot::new(LinkStatus { lane, ..LinkStatus::untried(peer, now) });
        let slot = links.entry((peer, lane)).or_insert_with(untried);
        if let Some(existing) = &slot.active {
            // A lane of a session before gives way, whoever dialled it.
            let same = lane == Lane::A || existing.session_id == new.session_id;
            match keep_of_duplicates(self.local, peer, existing.direction, new.direction) {
                Kept::Existing if same => return Err(Reason::LinkDuplicate),
                Kept::Existing | Kept::New => existing.replaced.cancel(),
            }
            // At most one connection of a lane is read beside the present one.
            std::mem::replace(&mut slot.former, existing.stop.clone()).cancel();
            if let (Some(lanes), Some(before)) = (&new.lanes, &existing.lanes) {
                lanes.follow(before);
            }
        }
        let on_demand = new.on_demand.clone();
        slot.active = Some(new);
        if lane == Lane::A {
            dialler.renewal.1 = 0;
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
        let active = slot.active.take();
        active.iter().for_each(Active::end);
        if lane == Lane::A {
            if let Some(dialler) = diallers.get(&peer) {
                dialler.vacant.send_replace(Some(now));
            }
            return 0;
        }
        links.remove(&(peer, lane));
        active.and_then(|active| active.on_demand).map_or(0, |on_demand| on_demand.closed())
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

    /// Neighbours that take rows of relays.
    pub(crate) fn row_takers(&self) -> Vec<(NodeId, Arc<Inbox>)> {
        let state = self.state();
        let takers = state.links.iter().filter_map(|((peer, _), slot)| match &slot.active {
            Some(Active { rows: true, inbox: Some(inbox), .. }) => Some((*peer, inbox.clone())),
            Some(_) | None => None,
        });
        takers.collect()
    }

    /// What carries the data of a lane to a peer now.
    pub(crate) fn carrier(&self, peer: NodeId, lane: Lane) -> Carrier {
        let state = self.state();
        let first = state.links.get(&(peer, Lane::A)).and_then(|slot| slot.active.as_ref());
        match first {
            Some(Active { inbox: Some(inbox), lanes, .. }) => {
                match lanes.as_ref().and_then(|lanes| lanes.get(lane)) {
                    Some(on_demand) if on_demand.is_up() => Carrier::OnDemand(on_demand.clone()),
                    Some(on_demand) => {
                        let before = on_demand.standing_before();
                        Carrier::OnDemand(before.unwrap_or_else(|| on_demand.clone()))
                    }
                    None => Carrier::Stands(inbox.clone()),
                }
            }
            Some(Active { inbox: None, .. }) | None => Carrier::None,
        }
    }

    /// Lane B or C of the present session.
    pub(crate) fn lane(&self, peer: NodeId, lane: Lane) -> Option<Arc<OnDemand>> {
        let state = self.state();
        let first = state.links.get(&(peer, Lane::A))?.active.as_ref()?;
        first.lanes.as_ref()?.get(lane).cloned()
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

    /// Peers whose link stands on this authority, or on another own leaf than this.
    pub(crate) fn outdated(&self, former: Option<Digest>, leaf: Option<Digest>) -> Vec<NodeId> {
        let state = self.state();
        let is_outdated = |slot: &Slot| slot.active.as_ref().is_some_and(|a| a.is_outdated(former, leaf));
        let outdated = state.links.iter().filter(|((_, lane), slot)| *lane == Lane::A && is_outdated(slot));
        outdated.map(|((peer, _), _)| *peer).collect()
    }

    /// How the link with a peer is made anew, if it has its turn. The next turn comes 3 s later, and doubling later
    /// after each one that made no link.
    pub(crate) fn take_renewal(&self, peer: NodeId, now: Mono) -> Option<Renewal> {
        let mut state = self.state();
        let State { diallers, links } = &mut *state;
        let (dialler, slot) = (diallers.get_mut(&peer)?, links.get(&(peer, Lane::A))?);
        let renewal = slot.active.as_ref()?.renewal(&dialler.stop)?;
        let (turn, tries) = dialler.renewal;
        (now >= turn).then(|| {
            dialler.renewal = (now.plus(RENEWED_AGAIN * (1 << tries.min(5))), tries + 1);
            renewal
        })
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

/// Between two attempts to make a link anew.
const RENEWED_AGAIN: Duration = Duration::from_secs(3);
