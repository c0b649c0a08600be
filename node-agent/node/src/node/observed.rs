//! Observations of the data plane within a node: they are kept for status and reported.

use std::net::SocketAddr;

use rap_types::{NodeId, Now};
use rap_wire::v1;

use crate::{Node, Observations, WantedNames};

impl Node {
    /// Links, heads of peers and the end of the data plane.
    pub const fn observations(&self) -> &Observations {
        &self.plane.observations
    }

    pub(super) fn link_changed(&mut self, event: v1::LinkEvent, now: Now) {
        if event.state == CLOSED {
            let peer = NodeId::from_slice(&event.node_id).ok();
            let record = peer.and_then(|peer| self.acceptor.sense()?.peer(peer));
            self.names.link_failed(record.map(|record| &**record));
        }
        self.relay_link_changed(&event, now);
        let is_peer = NodeId::from_slice(&event.node_id).is_ok_and(|node| self.is_peer(node, now));
        if self.plane.observations.link_changed(event, |_| is_peer) {
            self.uplink.report_soon(now.mono);
        }
    }

    pub(super) fn names_resolved(&mut self, answers: Vec<(String, Vec<SocketAddr>)>, now: Now) {
        let Some(own) = self.acceptor.sense().and_then(|sense| sense.own()) else { return };
        let is_overlay = |ip| own.pools().contain(ip);
        if self.names.resolved(answers, is_overlay, self.loopback) {
            self.publish(now);
        }
    }

    /// The names that are to be looked up.
    pub const fn wanted_names(&self) -> &WantedNames {
        self.names.wanted()
    }

    /// A head that does not verify is dropped: the peer may hold one of an authority before.
    pub(super) fn peer_head_heard(&mut self, heard: &v1::PeerHead) {
        let Ok(peer) = NodeId::from_slice(&heard.node_id) else { return };
        let known = self.is_used(peer);
        match self.acceptor.order_of(&heard.head) {
            Ok(order) if known => self.plane.observations.head_heard(peer, order),
            Ok(_) | Err(_) => {}
        }
    }

    pub(super) fn dataplane_exited(&mut self, exit: v1::DataplaneExit, now: Now) {
        let at_ms = self.trusted(now).0;
        self.plane.observations.exited(v1::DataplaneExit { at_ms, ..exit });
        self.uplink.report_soon(now.mono);
    }
}

/// State of a link event that ends the link.
const CLOSED: &str = "closed";
