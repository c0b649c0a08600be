//! A table in the words of those who obey it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use rap_mesh::{PathPlan, PathTerms};
use rap_runtime::Fault;
use rap_types::NodeId;
use rap_wireguard::{DeviceConfig, PublicKey, StaticSecret};

use super::identity::LinkCertificate;
use super::member::Member;

/// What mesh and device are told.
pub(crate) struct Plan {
    pub(crate) version: u64,
    pub(crate) member: Member,
    pub(crate) private_key: StaticSecret,
    pub(crate) mtu: u16,
    pub(crate) device: DeviceConfig,
    /// Absent: nobody is linked.
    pub(crate) leaf: Option<Arc<LinkCertificate>>,
    pub(crate) links: rap_mesh::Peers,
    pub(crate) paths: PathsInForce,
    pub(crate) peers: Vec<PeerFacts>,
    /// Why peers of the table are left out.
    pub(crate) unusable: Vec<Fault>,
}

/// What the mesh is told of paths.
pub(crate) struct PathsInForce {
    pub(crate) terms: PathTerms,
    pub(crate) plans: Vec<PathPlan>,
    /// Every relay that a path may name.
    pub(crate) relays: BTreeSet<NodeId>,
    /// Most links with nodes that are no relays, if this node is one.
    pub(crate) attachments: Option<usize>,
}

/// What is remembered of a peer for statistics and pings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerFacts {
    pub(crate) node: NodeId,
    pub(crate) key: Option<PublicKey>,
    /// The address that a ping goes to.
    pub(crate) address: Option<IpAddr>,
}
