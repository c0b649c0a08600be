//! The service of nodes: admits a stream and hands it to a session.

mod authority;
mod diagnostics;
mod directory;
mod hello;
mod identity;
mod member;
mod session;
mod stream_end;
mod telling;
mod witness;

use std::sync::Arc;

use rap_rpc::v1::node_sync_server::NodeSync;
use rap_wire::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::auth::call::Call;
use crate::grpc::sync::member::admit;
use crate::grpc::sync::session::Session;
use crate::replica::Replica;

/// NodeSync of `rap.fabric.v1`.
#[derive(Debug, Clone)]
pub struct SyncService(Arc<Replica>);

impl SyncService {
    /// Serves `replica`.
    pub fn new(replica: Arc<Replica>) -> Self {
        Self(replica)
    }
}

#[tonic::async_trait]
impl NodeSync for SyncService {
    type SyncStream = ReceiverStream<Result<v1::ControlMessage, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        self.0.require_ready().map_err(|failure| failure.status(&self.0.watch.metrics, call.id))?;
        let member =
            admit(&self.0, &call).await.map_err(|failure| failure.status(&self.0.watch.metrics, call.id))?;
        let (sender, receiver) = mpsc::channel(OUTGOING);
        let session = Session::new(self.0.clone(), member, call, sender);
        self.0.tasks.spawn("node stream", session.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Messages between a session and its stream; the session waits when it is full.
const OUTGOING: usize = 1;
