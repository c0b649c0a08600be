//! The channels between the tasks of one membership.
//!
//! Owns their names and how much each holds. Refuses to own who holds which end: the table in `tasks` says it.

use std::sync::Arc;

use rap_node::{ForwardingTable, TrustedCas, WantedNames};
use rap_runtime::Fault;
use rap_types::HeadOrder;
use tokio::sync::{mpsc, watch};

use super::disk::{Write, Written};
use super::ping::PingEnd;
use crate::control_plane::{Doubts, Pause, UplinkEvent};
use crate::dataplane::{DataplaneCommand, DataplaneEvent};
use crate::host::Answer;
use crate::membership::StoredCertificate;
use crate::requests::Request;

/// Both ends of a bounded queue.
type Queue<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);
/// Both ends of a newest value.
type Newest<T> = (watch::Sender<T>, watch::Receiver<T>);

/// Both ends of every channel of a membership, before the tasks take them.
pub(super) struct Channels {
    /// The newest forwarding table.
    pub(super) tables: Newest<Option<Arc<ForwardingTable>>>,
    /// Requests to the data plane.
    pub(super) commands: Queue<DataplaneCommand>,
    /// What happened to the data plane, and what it reports.
    pub(super) dataplane_events: Queue<DataplaneEvent>,
    /// What happened to the stream, and what came by it.
    pub(super) uplink_events: Queue<UplinkEvent>,
    /// Certificates that were issued.
    pub(super) certificates: Queue<StoredCertificate>,
    /// Why the last certificate request failed; `None` after one that did not.
    pub(super) certificate_failure: Newest<Option<Fault>>,
    /// True once there is a certificate to present.
    pub(super) certificate_ready: Newest<bool>,
    /// The CAs of node certificates.
    pub(super) cluster_ca: Newest<TrustedCas>,
    /// What the control plane made of the certificate.
    pub(super) doubts: Newest<Doubts>,
    /// How to come back after a lost stream.
    pub(super) pause: Newest<Pause>,
    /// Order of the head in use while it is stale.
    pub(super) stale_head: Newest<Option<HeadOrder>>,
    /// Names in the endpoints of peers.
    pub(super) wanted_names: Newest<WantedNames>,
    /// Their addresses.
    pub(super) resolved_names: Queue<Vec<Answer>>,
    /// Own endpoints by interface address: (link, WireGuard).
    pub(super) addresses: Newest<(Vec<String>, Vec<String>)>,
    /// What the local API asks.
    pub(super) requests: Queue<Request>,
    /// Ends of pings that the control plane asked for.
    pub(super) ping_ends: Queue<PingEnd>,
    /// What is to be on disk.
    pub(super) writes: Queue<Write>,
    /// What became of it.
    pub(super) written: Queue<Written>,
}

/// The names of all channels, as the table of tasks has them.
#[cfg(test)]
pub(super) const NAMES: [&str; 18] = [
    "tables",
    "commands",
    "dataplane_events",
    "uplink_events",
    "certificates",
    "certificate_failure",
    "certificate_ready",
    "cluster_ca",
    "doubts",
    "pause",
    "stale_head",
    "wanted_names",
    "resolved_names",
    "addresses",
    "requests",
    "ping_ends",
    "writes",
    "written",
];

impl Channels {
    /// Makes the channels. `cluster_ca` is what the contract says; `addresses` are the host's at this moment.
    pub(super) fn new(cluster_ca: Vec<u8>, addresses: (Vec<String>, Vec<String>)) -> Self {
        Self {
            tables: watch::channel(None),
            commands: mpsc::channel(16),
            dataplane_events: mpsc::channel(64),
            uplink_events: mpsc::channel(64),
            certificates: mpsc::channel(1),
            certificate_failure: watch::channel(None),
            certificate_ready: watch::channel(false),
            cluster_ca: watch::channel(TrustedCas { issuing: cluster_ca, other: None }),
            doubts: watch::channel(Doubts::default()),
            pause: watch::channel(Pause::default()),
            stale_head: watch::channel(None),
            wanted_names: watch::channel(WantedNames::default()),
            resolved_names: mpsc::channel(1),
            addresses: watch::channel(addresses),
            requests: mpsc::channel(32),
            ping_ends: mpsc::channel(16),
            // One write is under way at most.
            writes: mpsc::channel(1),
            written: mpsc::channel(1),
        }
    }
}
