//! What can be seen of links from outside.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rap_link::{Counters, Direction, Lane, Measured, SessionState};
use rap_types::{Mono, NodeId, Reason};

/// One lane of the link with a desired peer, as of now. Lane A of every desired peer is there; other
/// lanes only while there is a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// The peer.
    pub peer: NodeId,
    /// Which connection of the link this is.
    pub lane: Lane,
    /// State of its connection, or of the latest try; closed if there was none.
    pub state: SessionState,
    /// Why the connection is closed or leaving; nothing was tried yet if closed without a reason.
    pub reason: Option<Reason>,
    /// When the state was entered.
    pub since: Mono,
    /// Who dialled the connection.
    pub direction: Option<Direction>,
    /// Other end of the connection.
    pub remote: Option<SocketAddr>,
    /// Last measured round trip.
    pub rtt: Option<Duration>,
    /// Median round trip and loss, renewed when they changed by a tenth. `None` before the first probe was
    /// answered or missed, and once the connection is over.
    pub measured: Option<Measured>,
    /// Totals of the present or latest connection.
    pub counters: Counters,
}

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshEvent {
    /// A lane entered another state, or what its probes say changed by a tenth.
    Observed {
        /// The peer.
        peer: NodeId,
        /// Which connection of the link this is.
        lane: Lane,
        /// Present state.
        state: SessionState,
        /// Why, for draining and closed.
        reason: Option<Reason>,
        /// As in [`LinkStatus::measured`].
        measured: Option<Measured>,
    },
    /// A peer's hello carried a signed head that is not the one of this node's table. Nobody verified it.
    PeerHead {
        /// The peer.
        peer: NodeId,
        /// Signed bytes, 1 byte to 32 KiB.
        head: Bytes,
    },
}

impl LinkStatus {
    pub(crate) fn untried(peer: NodeId, since: Mono) -> Self {
        Self {
            peer,
            lane: Lane::A,
            state: SessionState::Closed,
            reason: None,
            since,
            direction: None,
            remote: None,
            rtt: None,
            measured: None,
            counters: Counters::default(),
        }
    }
}
