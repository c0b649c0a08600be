//! The connection that is a lane, as the registry and other tasks see it.
//!
//! Owns what ends it, and how its link is made anew. The task of the connection does the work.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use rap_link::Direction;
use rap_types::Digest;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::command::Command;
use crate::inbox::Inbox;
use crate::on_demand::{Lanes, OnDemand};

/// The connection that is one lane of the link with a peer.
#[derive(Debug, Clone)]
pub(crate) struct Active {
    pub(crate) id: u64,
    pub(crate) direction: Direction,
    pub(crate) commands: mpsc::Sender<Command>,
    /// Cancelled when another connection takes over. This one is read and emptied for a while.
    pub(crate) replaced: CancellationToken,
    /// Cancelled when this connection must end.
    pub(crate) stop: CancellationToken,
    /// Head in the hello of the peer. May be empty.
    pub(crate) head: Bytes,
    /// The peer wants this link and this node does not.
    pub(crate) attached: bool,
    pub(crate) session_id: [u8; 16],
    /// Address of the peer.
    pub(crate) remote: Option<SocketAddr>,
    /// Lane A, if the peer knows paths.
    pub(crate) inbox: Option<Arc<Inbox>>,
    /// Both sides know rows of relays.
    pub(crate) rows: bool,
    /// Lane A, if both sides know lanes.
    pub(crate) lanes: Option<Lanes>,
    /// Lane B or C.
    pub(crate) on_demand: Option<Arc<OnDemand>>,
    /// Fingerprint of the own leaf.
    pub(crate) leaf: Option<Digest>,
    /// Fingerprints of the authorities of both leaves: the own one and the peer's.
    pub(crate) authorities: [Option<Digest>; 2],
}

/// How a link is made anew.
#[derive(Debug)]
pub(crate) enum Renewal {
    /// By this node: the address of the present link, and what ends the dialling.
    Dial(Option<SocketAddr>, CancellationToken),
    /// By the peer, which is asked here.
    Ask(Arc<Inbox>),
}

impl Active {
    /// True if the link stands on this authority, or on another own leaf than this, and this side can have it made anew.
    pub(crate) fn is_outdated(&self, former: Option<Digest>, leaf: Option<Digest>) -> bool {
        let other_leaf = leaf.is_some() && self.leaf != leaf;
        match self.direction {
            Direction::Outbound => other_leaf || (former.is_some() && self.authorities.contains(&former)),
            Direction::Inbound => other_leaf && self.lanes.is_some(),
        }
    }

    /// `stop` ends the dialling.
    pub(crate) fn renewal(&self, stop: &CancellationToken) -> Option<Renewal> {
        match self.direction {
            Direction::Outbound => Some(Renewal::Dial(self.remote, stop.clone())),
            Direction::Inbound => {
                let inbox = self.inbox.as_ref().filter(|_| self.lanes.is_some());
                inbox.map(|inbox| Renewal::Ask(inbox.clone()))
            }
        }
    }

    /// Ends the connection, and the lanes that belong to it.
    pub(crate) fn end(&self) {
        self.stop.cancel();
        if let Some(lanes) = &self.lanes {
            lanes.end();
        }
    }
}
