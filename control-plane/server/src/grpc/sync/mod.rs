//! The service of nodes: admits a stream and hands it to a session.

mod authority;
mod changes;
mod diagnostics;
mod hello;
mod session;
mod witness;

use std::sync::Arc;

use rap_rpc::v1::node_sync_server::NodeSync;
use rap_store::{cluster_read, node_read};
use rap_types::{Reason, Version};
use rap_wire::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Call, Failure};
use crate::clusters::Cluster;
use crate::control::Control;
pub use changes::ContactLog;
use session::Session;

/// NodeSync of `rap.fabric.v1`.
#[derive(Debug, Clone)]
pub struct SyncService(Arc<Control>);

impl SyncService {
    /// Serves `control`.
    pub fn new(control: Arc<Control>) -> Self {
        Self(control)
    }
}

/// A node that may have a stream.
#[derive(Debug)]
struct Member {
    cluster: Arc<Cluster>,
    leaf: rap_runtime::tls::NodeLeaf,
    /// Configuration sequence at which it was seen to be a member.
    seen_at: Version,
}

#[tonic::async_trait]
impl NodeSync for SyncService {
    type SyncStream = ReceiverStream<Result<v1::ControlMessage, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let member =
            admit(&self.0, &call).await.map_err(|failure| failure.status(&self.0.metrics, call.id))?;
        let (sender, receiver) = mpsc::channel(OUTGOING);
        let session = Session::new(self.0.clone(), member, call, sender);
        self.0.tasks.spawn("node stream", session.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Checks that the node behind the certificate is a member with this key generation now.
async fn admit(control: &Control, call: &Call) -> Result<Member, Failure> {
    let unknown = || Failure::new(Reason::NodeUnknown, "no such node in this cluster");
    let leaf = call.node().ok_or_else(|| Failure::new(Reason::ChannelWrong, "no node certificate"))?;
    let cluster = control.clusters.by_id(leaf.identity.cluster).ok_or_else(unknown)?;
    let known = cluster.revocations.known();
    let mut transaction = control.store.system().begin_snapshot().await?;
    let revocations = control.revocations(&mut transaction, &cluster, &known).await?.chain;
    let row = node_read(&mut transaction, &cluster.rows, leaf.identity.node).await?.ok_or_else(unknown)?;
    let seen_at = cluster_read(&mut transaction, &cluster.rows).await?.ok_or_else(unknown)?.config_seq;
    if row.node.cluster != cluster.id {
        return Err(unknown());
    }
    control.require_member(&row, &revocations)?;
    if row.key_generation != leaf.identity.key_generation {
        return Err(Failure::new(Reason::NodeRevoked, "the certificate is of a replaced key generation"));
    }
    Ok(Member { cluster, leaf, seen_at: Version(seen_at) })
}

/// Messages between a session and its stream; the session waits when it is full.
const OUTGOING: usize = 1;
