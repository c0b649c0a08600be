//! What the driver may ask of the task that keeps a data plane.
//!
//! Owns the commands. Refuses to carry them out: `link` does.

use rap_runtime::Fault;
use rap_types::NodeId;
use rap_wire::v1;
use tokio::sync::oneshot;

/// What the driver may ask.
#[derive(Debug)]
pub enum DataplaneCommand {
    /// Ping a peer on every path.
    Ping {
        /// The peer.
        node: NodeId,
        /// Probes per path.
        count: u32,
        /// Milliseconds between probes.
        interval_ms: u32,
        /// Gets the outcome.
        reply: oneshot::Sender<Result<v1::PingOutcome, Fault>>,
    },
    /// End the data plane: the membership leaves this host. None is started again.
    Stop(oneshot::Sender<()>),
}
