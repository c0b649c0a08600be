//! What a mesh is started with. Owns defaults; every value can be set.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rap_link::{DIAL_GRACE, Timing};
use rap_runtime::Clock;
use rap_runtime::tls::Time;
use rap_types::{ClusterId, NodeId};

/// Settings of one mesh. A change needs a new mesh.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// This node.
    pub node: NodeId,
    /// The cluster of this membership.
    pub cluster: ClusterId,
    /// Where links are accepted; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Features offered in hellos.
    pub features: Vec<String>,
    /// Timers of every session. [`crate::Peers::probe_interval`] goes before.
    pub timing: Timing,
    /// Limits on connections that have not proved themselves.
    pub budget: Budget,
    /// How long the node with the larger id waits for the other's dial.
    pub dial_grace: Duration,
    /// How long a peer may refuse to take bytes.
    pub write_stall: Duration,
    /// How long the last bytes of a closing link may take.
    pub linger: Duration,
    /// Events kept for a slow reader; older ones are lost and the reader is told how many.
    pub event_queue: usize,
    /// Where certificate verifiers read the time.
    pub time: Time,
}

/// Limits on connections that have not proved themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Unestablished inbound connections in all.
    pub in_flight: u32,
    /// Unestablished inbound connections of one source: an IPv4 address or an IPv6 /64.
    pub per_source: u32,
}

impl MeshConfig {
    /// The defaults for a node of a cluster.
    pub fn new(node: NodeId, cluster: ClusterId, listen: SocketAddr) -> Self {
        Self {
            node,
            cluster,
            listen,
            features: Vec::new(),
            timing: Timing::default(),
            budget: Budget::default(),
            dial_grace: DIAL_GRACE,
            write_stall: Duration::from_secs(10),
            linger: Duration::from_millis(500),
            event_queue: 1024,
            time: Arc::new(Clock::new()),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { in_flight: 64, per_source: 16 }
    }
}
