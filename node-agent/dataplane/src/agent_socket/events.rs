//! What changed on links since the agent was told.
//!
//! Owns the bound: per peer and lane one event, per peer one head, per destination one refused path through each first
//! relay, per relay what it says of its links, the latest of each. Nothing is measured here.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rap_link::{Lane, Measured, SessionState};
use rap_mesh::{LinkStatus, Mesh, MeshEvent, RelayLink};
use rap_types::{NodeId, Reason};
use rap_wire::v1::dataplane_message::Body;
use rap_wire::v1::{DataplaneMessage, LinkEvent, LinkMeasurement, PathRefused, PeerHead, RelayWords};
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tokio::sync::watch;

/// The events of one connection of the agent, beginning with the present state of every link and the
/// heads that its peers' hellos carried.
pub(super) struct LinkEvents {
    mesh: watch::Receiver<Option<Mesh>>,
    source: Option<(Mesh, broadcast::Receiver<MeshEvent>)>,
    observed: BTreeMap<(NodeId, Lane), LinkEvent>,
    heads: BTreeMap<NodeId, Bytes>,
    /// By destination and first relay. Those that were missed come again: a path that stays planned is tried again.
    refused: BTreeMap<(NodeId, NodeId), PathRefused>,
    rows: BTreeMap<NodeId, RelayWords>,
}

impl LinkEvents {
    pub(super) fn new(mesh: watch::Receiver<Option<Mesh>>) -> Self {
        let (observed, heads) = (BTreeMap::new(), BTreeMap::new());
        Self { mesh, source: None, observed, heads, refused: BTreeMap::new(), rows: BTreeMap::new() }
    }

    /// The next event; waits until there is one. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> DataplaneMessage {
        loop {
            self.drain();
            if let Some((_, event)) = self.observed.pop_first() {
                return DataplaneMessage { id: 0, body: Some(Body::LinkEvent(event)) };
            }
            if let Some((peer, head)) = self.heads.pop_first() {
                let head = PeerHead { node_id: peer.to_vec(), head: head.to_vec() };
                return DataplaneMessage { id: 0, body: Some(Body::PeerHead(head)) };
            }
            if let Some((_, refused)) = self.refused.pop_first() {
                return DataplaneMessage { id: 0, body: Some(Body::PathRefused(refused)) };
            }
            if let Some((_, words)) = self.rows.pop_first() {
                return DataplaneMessage { id: 0, body: Some(Body::RelayWords(words)) };
            }
            self.wait().await;
        }
    }

    /// Waits for one change and keeps it.
    async fn wait(&mut self) {
        let Some((_, events)) = &mut self.source else {
            let mesh = self.mesh.wait_for(Option::is_some).await.ok().and_then(|mesh| mesh.clone());
            // None: the plane is gone, and so is this connection, at once.
            let Some(mesh) = mesh else { return std::future::pending().await };
            let events = mesh.events();
            self.source = Some((mesh, events));
            self.resync();
            return;
        };
        match events.recv().await {
            Ok(event) => self.keep(event),
            Err(RecvError::Lagged(_)) => self.resync(),
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Takes what is there, so that only the latest of a peer is left.
    fn drain(&mut self) {
        while let Some((_, events)) = &mut self.source {
            match events.try_recv() {
                Ok(event) => self.keep(event),
                Err(TryRecvError::Lagged(_)) => self.resync(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn keep(&mut self, event: MeshEvent) {
        match event {
            MeshEvent::Observed { peer, lane, state, reason, measured } => {
                self.observed.insert((peer, lane), told(peer, lane, state, reason, measured));
            }
            MeshEvent::PeerHead { peer, head } => {
                self.heads.insert(peer, head);
            }
            MeshEvent::RelayRow { relay, links } => {
                self.rows.insert(relay, words_of(relay, &links));
            }
            MeshEvent::PathRefused { destination, relays, passed, reason } => {
                let Some(first) = relays.first().copied() else { return };
                let refused = PathRefused {
                    destination: destination.to_vec(),
                    relays: relays.into_iter().map(NodeId::to_vec).collect(),
                    reason: reason.code().to_owned(),
                    passed: passed.map(u32::from),
                };
                self.refused.insert((destination, first), refused);
            }
        }
    }

    /// The present states and heads stand for all events that were missed.
    fn resync(&mut self) {
        let Some((mesh, _)) = &self.source else { return };
        for LinkStatus { peer, lane, state, reason, measured, .. } in mesh.links() {
            self.observed.insert((peer, lane), told(peer, lane, state, reason, measured));
        }
        self.heads = mesh.peer_heads().into_iter().collect();
        self.rows =
            mesh.relay_rows().into_iter().map(|(relay, links)| (relay, words_of(relay, &links))).collect();
    }
}

fn words_of(relay: NodeId, links: &[RelayLink]) -> RelayWords {
    RelayWords { relay: relay.to_vec(), links: links.iter().map(|link| link.to_wire()).collect() }
}

fn told(
    peer: NodeId,
    lane: Lane,
    state: SessionState,
    reason: Option<Reason>,
    measured: Option<Measured>,
) -> LinkEvent {
    LinkEvent {
        node_id: peer.to_vec(),
        state: state.as_str().to_owned(),
        reason: reason.map_or_else(String::new, |reason| reason.row().code.to_owned()),
        lane: lane.code(),
        measured: measured.map(|Measured { round_trip, loss_ppm, samples }| LinkMeasurement {
            rtt_median_us: round_trip.map_or(0, micros),
            loss_ppm,
            samples,
        }),
    }
}

/// Never 0, which means "none" on the socket.
fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX).max(1)
}
