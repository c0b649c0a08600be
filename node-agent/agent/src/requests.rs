//! What a running membership can be asked, and what it answers.
//!
//! Owns the types. Refuses to answer: the driver of the membership does.

use rap_runtime::Fault;
use rap_types::{ChannelClass, NodeId};
use rap_wire::v1;
use tokio::sync::{mpsc, oneshot};

/// What others ask of a membership.
pub enum Request {
    /// The status document.
    Status(oneshot::Sender<StatusAnswer>),
    /// The snapshot in use as an export file.
    Export(oneshot::Sender<Result<Vec<u8>, Fault>>),
    /// Tell the control plane that this node leaves.
    Leave(oneshot::Sender<Result<(), Fault>>),
    /// Apply a break-glass grant.
    BreakGlass {
        /// The grant's text form.
        text: String,
        /// Gets the grant as status shows it.
        reply: oneshot::Sender<Result<serde_json::Value, Fault>>,
    },
    /// End a break-glass grant.
    DropBreakGlass {
        /// Its digest, or the first digits of it.
        digest: String,
        /// Gets the grant as status shows it.
        reply: oneshot::Sender<Result<serde_json::Value, Fault>>,
    },
    /// Why traffic to a peer takes the paths that it takes.
    Explain {
        /// Name or id.
        peer: String,
        /// The class of the traffic.
        class: ChannelClass,
        /// Names or ids of relays that are assumed to be down.
        down: Vec<String>,
        /// Gets a document of schema `rap.path-explain.v1`.
        reply: oneshot::Sender<Result<serde_json::Value, Fault>>,
    },
    /// Ping a peer by name or id.
    Ping {
        /// Name or id.
        peer: String,
        /// Probes per path.
        count: u32,
        /// Milliseconds between probes.
        interval_ms: u32,
        /// Gets the outcome.
        reply: oneshot::Sender<Result<PingAnswer, Fault>>,
    },
}

/// How a ping ended.
#[derive(Debug)]
pub struct PingAnswer {
    /// Name of this node, as its snapshot says.
    pub from: String,
    /// The peer.
    pub node: NodeId,
    /// What the data plane found.
    pub outcome: v1::PingOutcome,
    /// The relays of the way, as documents name them.
    pub via: Vec<serde_json::Value>,
}

/// A status document and whether it says degraded.
#[derive(Debug)]
pub struct StatusAnswer {
    /// Document of schema `rap.status.v1`.
    pub document: serde_json::Value,
    /// True if the membership is degraded.
    pub degraded: bool,
}

/// Asks a task and waits for its answer; `None` if the task ends before.
pub async fn ask<R, T>(task: &mpsc::Sender<R>, request: impl FnOnce(oneshot::Sender<T>) -> R) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    task.send(request(reply)).await.ok()?;
    answer.await.ok()
}
