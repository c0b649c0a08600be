//! Questions to the agent's socket without starting a program for each.

use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use rap_rpc::v1::local_agent_client::LocalAgentClient;
use rap_wire::v1;
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::transport::{Endpoint, Uri};

/// The status document of the only membership; nothing while the agent does not answer or has none.
pub async fn ask_status(socket: &Path) -> Option<Value> {
    let path: PathBuf = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://agent").connect_with_connector(connector).await.ok()?;
    let mut client = LocalAgentClient::new(channel).max_decoding_message_size(64 << 20);
    let answer = client.status(v1::LocalStatusRequest::default()).await.ok()?;
    serde_json::from_str(&answer.into_inner().json).ok()
}
