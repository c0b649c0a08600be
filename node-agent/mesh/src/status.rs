//! What can be seen of links from outside.

use std::net::SocketAddr;
use std::time::Duration;

use rap_link::{Counters, Direction, SessionState};
use rap_types::{Mono, NodeId, Reason};

/// One desired peer and its link, as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// The peer.
    pub peer: NodeId,
    /// State of its link, or of the latest try; closed if there was none.
    pub state: SessionState,
    /// Why the link is closed or leaving; nothing was tried yet if closed without a reason.
    pub reason: Option<Reason>,
    /// When the state was entered.
    pub since: Mono,
    /// Who dialled the connection.
    pub direction: Option<Direction>,
    /// Other end of the connection.
    pub remote: Option<SocketAddr>,
    /// Last measured round trip.
    pub rtt: Option<Duration>,
    /// Totals of the present or latest connection.
    pub counters: Counters,
}

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshEvent {
    /// A peer's link entered another state.
    State {
        /// The peer.
        peer: NodeId,
        /// State entered.
        state: SessionState,
        /// Why, for draining and closed.
        reason: Option<Reason>,
    },
    /// A peer's hello carried its newest signed head, unverified.
    PeerHead {
        /// The peer.
        peer: NodeId,
        /// Signed bytes.
        head: Vec<u8>,
    },
}

impl LinkStatus {
    pub(crate) fn untried(peer: NodeId, since: Mono) -> Self {
        Self {
            peer,
            state: SessionState::Closed,
            reason: None,
            since,
            direction: None,
            remote: None,
            rtt: None,
            counters: Counters::default(),
        }
    }
}
