//! Calls to the running agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rap_rpc::Refusal;
use rap_rpc::v1::local_agent_client::LocalAgentClient;
use rap_runtime::Fault;
use rap_types::{ChannelClass, Reason};
use rap_wire::v1;
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::membership::Wanted;

/// A connection to the agent on this host.
pub struct LocalClient {
    client: LocalAgentClient<Channel>,
    membership: String,
}

impl LocalClient {
    /// Connects; `None` if no agent runs.
    ///
    /// # Errors
    /// An error of the socket other than its absence.
    pub async fn open(socket: &Path, membership: &str) -> Result<Option<Self>, Fault> {
        let path = socket.to_owned();
        match UnixStream::connect(&path).await {
            Ok(probe) => drop(probe),
            Err(error) => {
                use std::io::ErrorKind::{ConnectionRefused, NotFound};
                return match error.kind() {
                    NotFound | ConnectionRefused => Ok(None),
                    _ => Err(Fault::new(Reason::ServerUnreachable, format!("{}: {error}", path.display()))),
                };
            }
        }
        let connector = tower::service_fn(move |_: Uri| {
            let path: PathBuf = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://agent").timeout(CALL_DEADLINE);
        let channel = endpoint.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| Refusal::from_transport(&error).fault)?;
        let client = LocalAgentClient::new(channel).max_decoding_message_size(DOCUMENT_CAP);
        Ok(Some(Self { client, membership: membership.to_owned() }))
    }

    /// The status document and whether it says degraded.
    ///
    /// # Errors
    /// The refusal of the agent, or an error of the connection.
    pub async fn status(&mut self) -> Result<(Value, bool), Fault> {
        let request = v1::LocalStatusRequest { membership: self.membership.clone() };
        let answer = self.client.status(request).await.map_err(fault)?.into_inner();
        Ok((document(answer.json.as_bytes())?, answer.degraded))
    }

    /// The snapshot in use as an export.
    ///
    /// # Errors
    /// The refusal of the agent, or an error of the connection.
    pub async fn export(&mut self) -> Result<Vec<u8>, Fault> {
        Ok(self.client.snapshot_export(self.named()).await.map_err(fault)?.into_inner().document)
    }

    /// Makes the agent load a membership that was just written.
    ///
    /// # Errors
    /// The refusal of the agent, or an error of the connection.
    pub async fn load(&mut self) -> Result<(), Fault> {
        self.client.load_membership(self.named()).await.map_err(fault).map(drop)
    }

    /// Makes the agent end a membership and its data plane; nothing of it runs when this returns.
    ///
    /// # Errors
    /// The refusal of the agent, or an error of the connection.
    pub async fn unload(&mut self) -> Result<(), Fault> {
        self.client.unload_membership(self.named()).await.map_err(fault).map(drop)
    }

    /// Makes the agent tell the control plane that the node leaves, then end the membership.
    ///
    /// # Errors
    /// The refusal of the control plane or of the agent; the membership runs on then.
    pub async fn leave(&mut self) -> Result<(), Fault> {
        self.client.leave_membership(self.named()).await.map_err(fault).map(drop)
    }

    /// Applies a break-glass grant; the answer is a document of schema `rap.break_glass.v1`.
    ///
    /// # Errors
    /// The refusal of the agent, or an error of the connection.
    pub async fn break_glass(&mut self, text: &str) -> Result<Value, Fault> {
        let request = v1::LocalBreakGlass { membership: self.membership.clone(), text: text.to_owned() };
        document(&self.client.break_glass_apply(request).await.map_err(fault)?.into_inner().document)
    }

    /// Ends a break-glass grant, named by its digest or the first digits of it; the answer is a document of schema
    /// `rap.break_glass.v1`.
    ///
    /// # Errors
    /// The reason code with which the agent refuses, or that it does not answer.
    pub async fn drop_break_glass(&mut self, digest: &str) -> Result<Value, Fault> {
        let (membership, digest) = (self.membership.clone(), digest.to_owned());
        let request = v1::LocalBreakGlassDrop { membership, digest };
        document(&self.client.break_glass_drop(request).await.map_err(fault)?.into_inner().document)
    }

    /// Makes the agent replace keys; returns the key generation.
    ///
    /// # Errors
    /// The refusal of the agent or of the control plane.
    pub async fn rotate(&mut self, wanted: Wanted) -> Result<u64, Fault> {
        let (membership, Wanted { identity, wireguard }) = (self.membership.clone(), wanted);
        let request = v1::LocalRotation { membership, identity, wireguard };
        Ok(self.client.rotate_keys(request).await.map_err(fault)?.into_inner().key_generation)
    }

    /// The memberships that the agent knows; a document of schema `rap.memberships.v1`.
    ///
    /// # Errors
    /// The refusal of the agent, or an error of the connection.
    pub async fn memberships(&mut self) -> Result<Value, Fault> {
        let answer = self.client.memberships(v1::LocalEmpty {}).await.map_err(fault)?.into_inner();
        document(answer.json.as_bytes())
    }

    /// What a support bundle takes from the running agent; a document of schema `rap.support.v1`.
    ///
    /// # Errors
    /// The refusal of the agent, or an error of the connection.
    pub async fn support(&mut self) -> Result<Value, Fault> {
        document(&self.client.support(v1::LocalEmpty {}).await.map_err(fault)?.into_inner().document)
    }

    /// Why traffic of a class to a peer takes the paths that it takes, or which ones it would take if these relays were
    /// down; a document of schema `rap.path-explain.v1`.
    ///
    /// # Errors
    /// The refusal of the agent, or an error of the connection.
    pub async fn explain(
        &mut self,
        peer: &str,
        class: ChannelClass,
        down: &[String],
    ) -> Result<Value, Fault> {
        let request = v1::LocalPathRequest {
            membership: self.membership.clone(),
            peer: peer.to_owned(),
            class: class.as_str().to_owned(),
            down: down.to_vec(),
        };
        document(&self.client.path_explain(request).await.map_err(fault)?.into_inner().document)
    }

    /// Pings a peer; the answer is a document of schema `rap.ping.v1`.
    ///
    /// # Errors
    /// The refusal of the agent, or an error of the connection.
    pub async fn ping(&mut self, peer: &str, count: u32, interval_ms: u32) -> Result<Value, Fault> {
        let (membership, peer) = (self.membership.clone(), peer.to_owned());
        let request = v1::LocalPingRequest { membership, peer, count, interval_ms };
        document(self.client.ping(request).await.map_err(fault)?.into_inner().json.as_bytes())
    }

    fn named(&self) -> v1::LocalMembership {
        v1::LocalMembership { membership: self.membership.clone() }
    }
}

fn document(json: &[u8]) -> Result<Value, Fault> {
    let not_json = |_| Fault::new(Reason::RequestInvalid, "the agent's answer is not JSON");
    serde_json::from_slice(json).map_err(not_json)
}

fn fault(status: tonic::Status) -> Fault {
    Refusal::from(&status).fault
}

const CALL_DEADLINE: Duration = Duration::from_secs(60);
const DOCUMENT_CAP: usize = 64 * 1024 * 1024;
