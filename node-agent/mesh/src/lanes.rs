//! Lanes B and C of a link: opened when data waits for one, by the side that dialled lane A.
//!
//! Owns when a lane is opened. What waits for a lane is bounded by its inbox. A lane that cannot be opened drops what
//! waits for it; no class goes over another lane instead.

use std::sync::Arc;
use std::time::Duration;

use rap_link::{Direction, Frame, FrameId, Lane, Origin, Side, lane_request};
use rap_types::{ChannelClass, NodeId, Reason};

use crate::dial::dial_as;
use crate::on_demand::{Carrier, OnDemand, Standing};
use crate::registry::Route;
use crate::shared::Shared;

impl Shared {
    /// Hands labelled data to the lane of its class. Never waits. Above the totals of what waits, the frame is refused.
    pub(crate) fn send_data(
        self: &Arc<Self>,
        to: NodeId,
        frame: Frame,
        origin: &Origin,
    ) -> Result<(), Reason> {
        debug_assert!(matches!(frame.id, FrameId::Label(_)), "{frame:?}");
        let lane = Lane::of_class(frame.class);
        let full = |_full| Reason::LinkQueueFull;
        let payload = origin.charge(frame.payload).ok_or(Reason::LinkQueueFull)?;
        let frame = Frame { payload, ..frame };
        match self.registry.carrier(to, lane) {
            Carrier::Stands(inbox) => inbox.push(frame).map_err(full),
            Carrier::OnDemand(on_demand) => {
                let now = self.now().mono;
                if on_demand.rests(now) {
                    return Err(Reason::PathNextUnreachable);
                }
                if frame.class != ChannelClass::Telemetry {
                    on_demand.busy.mark(now);
                }
                on_demand.inbox.push(frame).map_err(full)?;
                self.open_lane(to, &on_demand);
                Ok(())
            }
            Carrier::None => Err(Reason::PathNextUnreachable),
        }
    }

    /// Opens a lane that the peer asked for, or makes the link anew.
    pub(crate) fn lane_asked(self: &Arc<Self>, peer: NodeId, lane: Lane) {
        if lane == Lane::A {
            self.make_anew(peer);
        } else if let Some(on_demand) = self.registry.lane(peer, lane) {
            self.open_lane(peer, &on_demand);
        }
    }

    /// Opens the lanes that a new session takes over from the one before. `dials`: this side dialled it.
    pub(crate) fn lanes_followed(self: &Arc<Self>, peer: NodeId, dials: bool) {
        let lanes = [Lane::B, Lane::C].into_iter().filter_map(|lane| self.registry.lane(peer, lane));
        for on_demand in lanes.filter(|on_demand| on_demand.is_due(dials)) {
            self.open_lane(peer, &on_demand);
        }
    }

    fn open_lane(self: &Arc<Self>, peer: NodeId, on_demand: &Arc<OnDemand>) {
        if on_demand.claim(self.now().mono) {
            self.tasks.spawn("link-lane", open(self.clone(), peer, on_demand.clone()));
        }
    }
}

/// Opens the lane, and carries its connection if this side dials.
async fn open(shared: Arc<Shared>, peer: NodeId, on_demand: Arc<OnDemand>) {
    let Some(Standing { direction, session_id, remote }) = shared.registry.standing(peer) else {
        return fail(&shared, &on_demand);
    };
    let lane = on_demand.lane;
    match direction {
        Direction::Outbound => {
            let side = Side::Dialer { expected: peer, session_id, lane };
            let endpoints: Vec<_> = remote.into_iter().collect();
            let connection = dial_as(shared.clone(), peer, side, &endpoints, on_demand.ended.clone()).await;
            let now = shared.now().mono;
            let stood = connection.established_at.is_some_and(|at| now.since(at) >= STABLE)
                || connection.link.reason() == Some(Reason::LinkIdle);
            match stood {
                true if on_demand.is_up() => {}
                true => shared.registry.reject(Reason::LinkClosed, on_demand.closed()),
                false => fail(&shared, &on_demand),
            }
        }
        Direction::Inbound => {
            let mut up = on_demand.up.subscribe();
            let asked = match shared.registry.route(peer) {
                Route::Linked(inbox) => inbox.push(lane_request(lane)).is_ok(),
                Route::Vacant | Route::None => false,
            };
            let came = async {
                tokio::select! {
                    came = up.wait_for(|up| *up) => came.is_ok(),
                    () = on_demand.ended.cancelled() => false,
                }
            };
            if !asked || !tokio::time::timeout(OPEN_TIME, came).await.unwrap_or(false) {
                fail(&shared, &on_demand);
            }
        }
    }
}

/// Drops what waits, unless another connection is the lane.
fn fail(shared: &Shared, on_demand: &OnDemand) {
    if on_demand.is_up() {
        return;
    }
    let dropped = on_demand.failed(shared.now().mono);
    shared.registry.reject(Reason::PathNextUnreachable, dropped);
}

/// Time that the dialling side has after it was asked: a dial and a handshake.
const OPEN_TIME: Duration = Duration::from_secs(3);
/// A lane that ended sooner counts as not opened: the peer refused it.
const STABLE: Duration = Duration::from_secs(1);
