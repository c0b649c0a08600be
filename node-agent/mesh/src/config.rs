//! Settings of a mesh.
//!
//! Owns the defaults. Every value can be set.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rap_link::{DIAL_GRACE, FEATURE_FABRIC, FEATURE_LANES, FEATURE_ROWS, Timing};
use rap_runtime::Clock;
use rap_runtime::tls::Time;
use rap_types::{ClusterId, NodeId};

/// Settings of one mesh. They are fixed for its life.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// Id of this node.
    pub node: NodeId,
    /// Id of the cluster that this membership is in.
    pub cluster: ClusterId,
    /// Address where links are accepted. With port 0 the kernel chooses the port.
    pub listen: SocketAddr,
    /// Features offered in hellos; at most 32.
    pub features: Vec<String>,
    /// Timers of every session. [`crate::Peers::probe_interval`] overrides two of them.
    pub timing: Timing,
    /// Limits on connections that have not proved themselves.
    pub budget: Budget,
    /// How long the node with the larger id waits for the other's dial.
    pub dial_grace: Duration,
    /// A link whose peer takes no bytes for this long is closed.
    pub write_stall: Duration,
    /// Time that a closing link has to write its last bytes and to see the end of the peer.
    pub linger: Duration,
    /// Events kept for a slow reader. Older ones are lost; the reader learns how many.
    pub event_queue: usize,
    /// Events of paths kept for a slow reader; newer datagrams are dropped when half of it is in use.
    pub path_queue: usize,
    /// Bytes that wait in this process to be sent on, in all.
    pub queued_max: usize,
    /// Bytes that wait of those that one neighbour sent.
    pub queued_per_neighbour: usize,
    /// Time source of the certificate verifiers.
    pub time: Time,
}

/// Limits on connections that have not proved themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Unestablished inbound connections in all.
    pub in_flight: u32,
    /// Unestablished inbound connections of one source: an IPv4 address or an IPv6 /56.
    pub per_source: u32,
}

impl MeshConfig {
    /// The defaults for a node of a cluster.
    pub fn new(node: NodeId, cluster: ClusterId, listen: SocketAddr) -> Self {
        Self {
            node,
            cluster,
            listen,
            features: [FEATURE_FABRIC, FEATURE_LANES, FEATURE_ROWS].map(str::to_owned).to_vec(),
            timing: Timing::default(),
            budget: Budget::default(),
            dial_grace: DIAL_GRACE,
            write_stall: Duration::from_secs(10),
            linger: Duration::from_millis(500),
            event_queue: 1024,
            path_queue: 8192,
            queued_max: 16 << 20,
            queued_per_neighbour: 4 << 20,
            time: Arc::new(Clock::new()),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { in_flight: 64, per_source: 16 }
    }
}
