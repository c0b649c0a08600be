//! What changed on links since the agent was told. Holds at most one event per peer: the latest.

use std::collections::BTreeMap;

use rap_mesh::{LinkStatus, Mesh, MeshEvent};
use rap_types::NodeId;
use rap_wire::v1::dataplane_message::Body;
use rap_wire::v1::{DataplaneMessage, LinkEvent, LinkLane};
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tokio::sync::watch;

/// The events of one connection, beginning with the present state of every link.
pub(super) struct LinkEvents {
    mesh: watch::Receiver<Option<Mesh>>,
    source: Option<(Mesh, broadcast::Receiver<MeshEvent>)>,
    pending: BTreeMap<NodeId, LinkEvent>,
}

impl LinkEvents {
    pub(super) fn new(mesh: watch::Receiver<Option<Mesh>>) -> Self {
        Self { mesh, source: None, pending: BTreeMap::new() }
    }

    /// The next event; waits until there is one. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> DataplaneMessage {
        loop {
            self.drain();
            if let Some((_, event)) = self.pending.pop_first() {
                return DataplaneMessage { id: 0, body: Some(Body::LinkEvent(event)) };
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
        if let MeshEvent::State { peer, state, reason } = event {
            self.pending.insert(peer, told(peer, state.as_str(), reason));
        }
    }

    /// The present states stand for all events that were missed.
    fn resync(&mut self) {
        let links = self.source.as_ref().map(|(mesh, _)| mesh.links()).unwrap_or_default();
        for LinkStatus { peer, state, reason, .. } in links {
            self.pending.insert(peer, told(peer, state.as_str(), reason));
        }
    }
}

fn told(peer: NodeId, state: &str, reason: Option<rap_types::Reason>) -> LinkEvent {
    LinkEvent {
        node_id: peer.to_vec(),
        state: state.to_owned(),
        reason: reason.map_or_else(String::new, |reason| reason.row().code.to_owned()),
        lane: LinkLane::A as i32,
        measured: None,
    }
}
