//! Status and events of links, as the user of a mesh sees them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rap_contract::RelayLink;
use rap_link::{Counters, Direction, Lane, Measured, SessionState};
use rap_types::{Mono, NodeId, Reason};

/// Status of one lane. Lane A of every desired peer is listed; other lanes only while they have a
/// connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// Id of the peer.
    pub peer: NodeId,
    /// Which connection of the link this is.
    pub lane: Lane,
    /// State of the connection, or of the latest attempt. Closed if there was none.
    pub state: SessionState,
    /// Why the connection is closed or draining. Absent in state closed: nothing was tried yet.
    pub reason: Option<Reason>,
    /// When the state was entered, on the boot clock.
    pub since: Mono,
    /// Who dialled the connection. Absent: nothing was tried yet.
    pub direction: Option<Direction>,
    /// Address of the peer. Absent before the connection stands.
    pub remote: Option<SocketAddr>,
    /// Latest measured round trip. Absent before the first.
    pub rtt: Option<Duration>,
    /// Median round trip and loss, updated when they changed by a tenth. Absent before the first probe was
    /// answered or missed, and after the connection closed.
    pub measured: Option<Measured>,
    /// Totals of the present connection or of the latest one.
    pub counters: Counters,
    /// Congestion control of lane B or C, as the kernel names it. Absent on lane A.
    pub congestion: Option<String>,
}

/// A change of links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshEvent {
    /// A lane entered another state, or its measurement changed by a tenth.
    Observed {
        /// Id of the peer.
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
    /// The hello of a peer carried a signed head that differs from [`crate::Peers::newest_head`]. Nobody
    /// verified it.
    PeerHead {
        /// Id of the peer.
        peer: NodeId,
        /// Signed bytes, 1 byte to 32 KiB.
        head: Bytes,
    },
    /// A relay says what its links with other relays are like, those that it does not name apart.
    RelayRow {
        /// Id of the relay.
        relay: NodeId,
        /// Its links.
        links: Vec<RelayLink>,
    },
    /// A hop refused to install a path of this node, or no hop answered in time.
    PathRefused {
        /// Id of the node at the other end.
        destination: NodeId,
        /// Relays of the path, from this node on; never empty.
        relays: Vec<NodeId>,
        /// So many of them passed the request on before one refused it. Absent: none answered.
        passed: Option<u8>,
        /// Why.
        reason: Reason,
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
            congestion: None,
        }
    }
}
