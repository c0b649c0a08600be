//! The desired peers, and what a proven identity is permitted.
//!
//! Owns the answer "may this link live, and until when". Refuses to own where the peers come from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rap_link::Permit;
use rap_runtime::tls::{ClusterTrust, NodeLeaf, TrustStore};
use rap_types::{Mono, NodeId, Now, Reason};

/// One desired peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it can be dialled, best first; empty if only it can dial.
    pub endpoints: Vec<SocketAddr>,
    /// Until when a link with it may live (BOOTTIME).
    pub deadline: Mono,
}

/// The desired links of this node, replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    /// Desired peers. A node that is not here is neither dialled nor accepted.
    pub peers: BTreeMap<NodeId, Peer>,
    /// Authorities and revocations of the cluster.
    pub trust: ClusterTrust,
    /// Newest signed head verified here, sent in hellos; may be empty.
    pub newest_head: Vec<u8>,
    /// Silence after which a peer is probed; absent: as the mesh was started with. A change takes effect
    /// on live links at once.
    pub probe_interval: Option<Duration>,
}

/// The part of [`Peers`] that tasks watch.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkPeers {
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    pub(crate) newest_head: Vec<u8>,
    pub(crate) probe_interval: Option<Duration>,
}

/// Until when the certificate is valid, on the boot clock, which does not jump.
pub(crate) fn certificate_deadline(certificate: &NodeLeaf, now: Now) -> Mono {
    // Validity includes its last second.
    now.mono.plus(certificate.not_after.plus(Duration::from_secs(1)).since(now.wall))
}

impl LinkPeers {
    /// What a peer that proved `certificate` may do now. `valid_until` is [`certificate_deadline`] of its
    /// handshake.
    pub(crate) fn permit(&self, trust: &TrustStore, certificate: &NodeLeaf, valid_until: Mono) -> Permit {
        if let Err(reject) = trust.check(&certificate.identity) {
            return Permit::Denied(reject.reason());
        }
        match self.peers.get(&certificate.identity.node) {
            Some(peer) => Permit::Until(peer.deadline.min(valid_until)),
            None => Permit::Denied(Reason::LinkPeerUnknown),
        }
    }
}
