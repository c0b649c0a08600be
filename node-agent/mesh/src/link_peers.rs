//! The desired peers, and what a peer that proved its identity is permitted.
//!
//! Owns the decision whether a link may live, and until when. Refuses to own the source of the peers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rap_link::Permit;
use rap_runtime::tls::{ClusterTrust, ProvenNode, TrustStore};
use rap_types::{Digest, Mono, NodeId, Now, Reason};

/// One desired peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Addresses to dial, best first. Empty: this node only accepts links from the peer, even on demand.
    pub endpoints: Vec<SocketAddr>,
    /// End of every link with the peer, on the boot clock.
    pub deadline: Mono,
    /// Whether this node wants the link.
    pub dial: Dial,
}

/// Whether a known peer is dialled, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// Both nodes want the link: the one with the smaller id dials first.
    InTurn,
    /// This node alone wants the link: it dials at once.
    AtOnce,
    /// The peer is accepted, and dialled when a path needs the link.
    OnDemand,
}

/// The desired links of this node, replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    /// Desired peers by node id. Other nodes are neither dialled nor accepted.
    pub peers: BTreeMap<NodeId, Peer>,
    /// Authorities and revocations of the cluster.
    pub trust: ClusterTrust,
    /// Newest signed cluster head that this node verified, sent in hellos. May be empty; at most 32 KiB.
    pub newest_head: Vec<u8>,
    /// Silence after which a peer is probed. Absent: that of the settings of the mesh. A change takes effect
    /// on live links at once.
    pub probe_interval: Option<Duration>,
    /// Fingerprint of an authority that vouches and soon will not: links by it are made anew while they are up.
    pub former: Option<Digest>,
}

/// The part of [`Peers`] that the tasks of links watch.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkPeers {
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    pub(crate) newest_head: Vec<u8>,
    pub(crate) probe_interval: Option<Duration>,
    pub(crate) former: Option<Digest>,
}

/// Until when the certificate of a node is valid, on the boot clock, which does not jump.
pub(crate) fn certificate_deadline(node: &ProvenNode, now: Now) -> Mono {
    // Validity includes its last second.
    now.mono.plus(node.not_after.plus(Duration::from_secs(1)).since(now.wall))
}

impl LinkPeers {
    /// What a peer that proved its identity may do now. `valid_until` is [`certificate_deadline`] of its
    /// handshake.
    pub(crate) fn permit(&self, trust: &TrustStore, node: &ProvenNode, valid_until: Mono) -> Permit {
        if let Err(reject) = trust.check(node) {
            return Permit::Denied(reject.reason());
        }
        match self.peers.get(&node.identity.node) {
            Some(peer) => Permit::Until(peer.deadline.min(valid_until)),
            None => Permit::Denied(Reason::LinkPeerUnknown),
        }
    }
}
