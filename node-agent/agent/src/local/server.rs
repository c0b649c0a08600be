//! The local API: gRPC on a unix socket (0600) for our own user and root.
//!
//! Owns who may call and the way to a membership. Refuses to own answers: drivers give them.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use rap_rpc::v1::local_agent_server::{LocalAgent, LocalAgentServer};
use rap_rpc::{Accepted, Refusal};
use rap_runtime::Fault;
use rap_runtime::files::gone;
use rap_runtime::probe_series::ProbeSeries;
use rap_types::{ChannelClass, Reason};
use rap_wire::v1;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use crate::host::{Directory, HostEvent, HostHandle, absent};
use crate::membership::Wanted;
use crate::requests::{PingAnswer, Request, ask};
use crate::status::stopped_document;

/// Answers local calls.
pub struct LocalServer {
    directory: Directory,
    host: HostHandle,
}

impl LocalServer {
    /// Serves `directory`; `host` starts memberships.
    pub const fn new(directory: Directory, host: HostHandle) -> Self {
        Self { directory, host }
    }

    /// Serves until cancelled.
    ///
    /// # Errors
    /// An error of the transport.
    pub async fn serve(
        self,
        listener: UnixListener,
        cancel: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let own = nix::unistd::geteuid().as_raw();
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let incoming = UnixListenerStream::new(listener).filter_map(move |stream| {
            let places = places.clone();
            // An accept error, a stranger or one too many ends that connection, never the loop.
            async move {
                let Ok(stream) = stream else {
                    // Out of descriptors: the next accept would fail at once again.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    return None;
                };
                let place = places.try_acquire_owned().ok()?;
                is_allowed(&stream, own)
                    .then(|| Ok::<_, io::Error>(Accepted::new(stream, (), place, PREFACE_DEADLINE)))
            }
        });
        tonic::transport::Server::builder()
            .timeout(CALL_DEADLINE)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .concurrency_limit_per_connection(16)
            .add_service(LocalAgentServer::new(self).max_decoding_message_size(128 * 1024))
            .serve_with_incoming_shutdown(incoming, cancel.cancelled_owned())
            .await
    }

    async fn ask<T>(
        &self,
        membership: &str,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Status> {
        let driver = self.directory.one(membership).map_err(refusal)?;
        ask(&driver, request).await.ok_or_else(|| refusal(absent()))
    }

    /// The status of one membership, running or not.
    async fn status_of(&self, name: &str) -> (serde_json::Value, bool) {
        let answered = async { ask(&self.directory.one(name)?, Request::Status).await.ok_or_else(absent) };
        match tokio::time::timeout(STATUS_DEADLINE, answered).await {
            Ok(Ok(answer)) => (answer.document, answer.degraded),
            Ok(Err(fault)) => (stopped_document(name, &fault), true),
            Err(_) => {
                let fault = Fault::new(Reason::RequestTimeout, "the membership does not answer");
                (stopped_document(name, &fault), true)
            }
        }
    }
}

/// A call of the local API.
type Asked<T> = tonic::Request<T>;
/// What a call is answered with.
type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl LocalAgent for LocalServer {
    async fn status(&self, request: Asked<v1::LocalStatusRequest>) -> Answered<v1::LocalStatus> {
        let names = self.directory.names(&request.get_ref().membership).map_err(refusal)?;
        // Asked at once: one that does not answer holds up no other.
        let statuses = names.iter().map(|name| self.status_of(name));
        let mut statuses = futures_util::future::join_all(statuses).await;
        let degraded = statuses.iter().any(|(_, degraded)| *degraded);
        let document = match statuses.len() {
            1 => statuses.remove(0).0,
            _ => {
                let all: Vec<_> = statuses.into_iter().map(|(document, _)| document).collect();
                serde_json::json!({ "schema": "rap.status.all.v1", "degraded": degraded, "memberships": all })
            }
        };
        Ok(Response::new(v1::LocalStatus { json: document.to_string(), degraded }))
    }

    async fn snapshot_export(&self, request: Asked<v1::LocalMembership>) -> Answered<v1::LocalDocument> {
        let document = self.ask(&request.get_ref().membership, Request::Export).await?.map_err(refusal)?;
        Ok(Response::new(v1::LocalDocument { document }))
    }

    async fn load_membership(&self, request: Asked<v1::LocalMembership>) -> Answered<v1::LocalEmpty> {
        let load = |reply| HostEvent::Load(request.into_inner().membership, reply);
        self.host.ask(load).await.map_err(refusal)?;
        Ok(Response::new(v1::LocalEmpty {}))
    }

    async fn break_glass_apply(&self, request: Asked<v1::LocalBreakGlass>) -> Answered<v1::LocalDocument> {
        let v1::LocalBreakGlass { membership, text } = request.into_inner();
        let apply = |reply| Request::BreakGlass { text, reply };
        let mut document = self.ask(&membership, apply).await?.map_err(refusal)?;
        document["schema"] = "rap.break_glass.v1".into();
        Ok(Response::new(v1::LocalDocument { document: document.to_string().into_bytes() }))
    }

    async fn break_glass_drop(&self, request: Asked<v1::LocalBreakGlassDrop>) -> Answered<v1::LocalDocument> {
        let v1::LocalBreakGlassDrop { membership, digest } = request.into_inner();
        let end = |reply| Request::DropBreakGlass { digest, reply };
        let mut document = self.ask(&membership, end).await?.map_err(refusal)?;
        document["schema"] = "rap.break_glass.v1".into();
        Ok(Response::new(v1::LocalDocument { document: document.to_string().into_bytes() }))
    }

    async fn unload_membership(&self, request: Asked<v1::LocalMembership>) -> Answered<v1::LocalEmpty> {
        let unload = |reply| HostEvent::Unload(request.into_inner().membership, reply);
        self.host.ask(unload).await.map_err(refusal)?;
        Ok(Response::new(v1::LocalEmpty {}))
    }

    async fn leave_membership(&self, request: Asked<v1::LocalMembership>) -> Answered<v1::LocalEmpty> {
        let name = request.into_inner().membership;
        self.ask(&name, Request::Leave).await?.map_err(refusal)?;
        self.host.ask(|reply| HostEvent::Unload(name, reply)).await.map_err(refusal)?;
        Ok(Response::new(v1::LocalEmpty {}))
    }

    async fn rotate_keys(&self, request: Asked<v1::LocalRotation>) -> Answered<v1::LocalRotated> {
        let v1::LocalRotation { membership, identity, wireguard } = request.into_inner();
        if !identity && !wireguard {
            return Err(refusal(Fault::new(Reason::RequestInvalid, "no key is to be replaced")));
        }
        let wanted = Wanted { identity, wireguard };
        let rotate = |reply| HostEvent::Rotate(membership, wanted, Some(reply));
        let key_generation = self.host.ask(rotate).await.map_err(refusal)?;
        Ok(Response::new(v1::LocalRotated { key_generation }))
    }

    async fn memberships(&self, _: Asked<v1::LocalEmpty>) -> Answered<v1::LocalMemberships> {
        let document = crate::local::memberships_document("running agent", self.directory.list());
        Ok(Response::new(v1::LocalMemberships { json: document.to_string() }))
    }

    async fn support(&self, _: Asked<v1::LocalEmpty>) -> Answered<v1::LocalDocument> {
        let document = crate::observe::support(&self.directory).await.to_string().into_bytes();
        Ok(Response::new(v1::LocalDocument { document }))
    }

    async fn path_explain(&self, request: Asked<v1::LocalPathRequest>) -> Answered<v1::LocalDocument> {
        let v1::LocalPathRequest { membership, peer, class, down } = request.into_inner();
        let invalid = |what| refusal(Fault::new(Reason::RequestInvalid, what));
        let class = if class.is_empty() { Ok(ChannelClass::Vpn) } else { class.parse() };
        let class = class.map_err(|_| invalid("class: none of the channel classes"))?;
        if down.len() > DOWN {
            return Err(invalid("down: at most 64 relays"));
        }
        let explain = |reply| Request::Explain { peer, class, down, reply };
        let document = self.ask(&membership, explain).await?.map_err(refusal)?;
        Ok(Response::new(v1::LocalDocument { document: document.to_string().into_bytes() }))
    }

    async fn ping(&self, request: Asked<v1::LocalPingRequest>) -> Answered<v1::LocalPingAnswer> {
        let v1::LocalPingRequest { membership, peer, count, interval_ms } = request.into_inner();
        let spread = u64::from(count) * u64::from(interval_ms);
        if count == 0 || count > 20 || spread > 50_000 {
            return Err(refusal(Fault::new(Reason::RequestInvalid, "count 1 to 20, at most 50 s in all")));
        }
        let name = peer.clone();
        let ping = |reply| Request::Ping { peer, count, interval_ms, reply };
        let PingAnswer { from, node, outcome, via } = self.ask(&membership, ping).await?.map_err(refusal)?;
        let document = json!({
            "schema": "rap.ping.v1",
            "from": from,
            "to": name,
            "node_id": node,
            "overlay_address": outcome.overlay_address,
            "overlay": series(&outcome.overlay),
            "link": series(&outcome.link),
            "link_state": outcome.link_state,
            "way": Some(&outcome.way).filter(|way| !way.is_empty()),
            "via": via,
        });
        Ok(Response::new(v1::LocalPingAnswer { json: document.to_string() }))
    }
}

/// Binds the socket, readable by our own user alone. A socket that somebody listens on is not taken.
///
/// # Errors
/// `state.locked` if another agent runs; those of the file system.
pub async fn bind(path: &Path) -> Result<UnixListener, Fault> {
    let io_fault = |error: io::Error| Fault::new(Reason::StateIo, format!("{}: {error}", path.display()));
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(io_fault)?;
    }
    if UnixStream::connect(path).await.is_ok() {
        let text = format!("another agent serves {}", path.display());
        return Err(Fault::new(Reason::StateLocked, text));
    }
    gone(std::fs::remove_file(path)).map_err(io_fault)?;
    let listener = UnixListener::bind(path).map_err(io_fault)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(io_fault)?;
    Ok(listener)
}

fn is_allowed(stream: &UnixStream, own: u32) -> bool {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own || peer.uid() == 0 => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "a local caller of another user was refused");
            false
        }
        Err(_) => false,
    }
}

fn refusal(fault: Fault) -> Status {
    Refusal::new(fault.reason, fault.message).into()
}

fn series(samples: &[v1::ProbeSample]) -> Value {
    ProbeSeries::of(samples.iter().map(|sample| (sample.sequence, sample.rtt_ns))).document()
}

const STATUS_DEADLINE: Duration = Duration::from_secs(5);
const CALL_DEADLINE: Duration = Duration::from_secs(60);
/// Relays that may be assumed to be down.
const DOWN: usize = 64;
/// Callers at once.
const CONNECTIONS: usize = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
const PREFACE_DEADLINE: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
