//! Outbound connections. One task per desired peer keeps lane A connected.
//!
//! Owns the time of each dial, by the rules of `rap-link`, and the client side of the TLS handshake.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rap_link::{Input, Lane, Side, may_dial, redial_delay};
use rap_runtime::tls::{any_server_name, link_client};
use rap_types::{Mono, NodeId, Reason};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};
use tokio_util::sync::CancellationToken;

use crate::accept::identify;
use crate::link_peers::{Dial, Peer};
use crate::pump;
use crate::registry::{Demand, NewPeer};
use crate::shared::{Connection, Shared, reason_of_io, until};
use crate::socket;

/// Dials while the peer has no link, has an endpoint, and is wanted; the rules of `rap-link` say when.
/// Ends when the peer is no longer desired.
pub(crate) async fn keep_linked(shared: Arc<Shared>, new: NewPeer) {
    let NewPeer { peer, mut vacant, mut demand, stop } = new;
    let mut link_peers = shared.link_peers.subscribe();
    let mut backoff = Backoff { failures: 0, not_before: Mono(0), last: Mono(0) };
    loop {
        let Some(entry) = link_peers.borrow_and_update().peers.get(&peer).cloned() else { return };
        let since = *vacant.borrow_and_update();
        let demanded = *demand.borrow_and_update();
        let due = since.and_then(|since| due(&shared, peer, &entry, since, demanded, &backoff));
        let now = shared.now();
        if due.is_none_or(|due| now.mono < due) {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = link_peers.changed() => if changed.is_err() { return },
                changed = vacant.changed() => if changed.is_err() { return },
                changed = demand.changed() => if changed.is_err() { return },
                () = until(due.unwrap_or(Mono(u64::MAX)), now), if due.is_some() => {}
            }
            continue;
        }
        let connection = dial(shared.clone(), peer, &entry.endpoints, stop.clone()).await;
        backoff.after(&connection);
    }
}

/// Dials lane A once and carries the connection to its end.
pub(crate) async fn dial(
    shared: Arc<Shared>,
    peer: NodeId,
    endpoints: &[SocketAddr],
    stop: CancellationToken,
) -> Connection {
    let mut session_id = [0; 16];
    rand::fill(&mut session_id);
    let side = Side::Dialer { expected: peer, session_id, lane: Lane::A };
    let mut connection = Connection::new(shared, side, stop);
    // Boxed: the memory of a handshake is allocated only while one runs.
    Box::pin(outbound(&mut connection, peer, endpoints)).await;
    connection.account();
    connection
}

/// Earliest time of the next dial; `None` while this node may not dial.
fn due(
    shared: &Shared,
    peer: NodeId,
    entry: &Peer,
    vacant_since: Mono,
    demand: Demand,
    backoff: &Backoff,
) -> Option<Mono> {
    let grace = shared.config.dial_grace;
    let local = shared.config.node;
    let dialable = !entry.endpoints.is_empty();
    let now = shared.now().mono;
    if now >= entry.deadline || !may_dial(local, peer, dialable, Duration::MAX, grace) {
        return None;
    }
    let wanted = match entry.dial {
        Dial::AtOnce => Some(vacant_since),
        Dial::InTurn if may_dial(local, peer, dialable, Duration::ZERO, grace) => Some(vacant_since),
        Dial::InTurn => Some(vacant_since.plus(grace)),
        Dial::OnDemand => None,
    };
    let wanted = wanted.map(|turn| turn.max(backoff.not_before));
    // Whoever needs the link waits for no turn, and an earlier failure delays the dial by a second at most.
    let demanded = demand.since.max(backoff.not_before.min(backoff.last.plus(DEMAND_PAUSE)));
    let demanded = (now < demand.until && demanded < demand.until).then_some(demanded);
    wanted.into_iter().chain(demanded).min()
}

struct Backoff {
    failures: u32,
    not_before: Mono,
    /// When the latest attempt ended.
    last: Mono,
}

impl Backoff {
    /// A link that lived for [`PROVEN_STABLE`], or that ended as a duplicate, is not a failure.
    fn after(&mut self, connection: &Connection) {
        let now = connection.shared.now().mono;
        let lived = connection.established_at.is_some_and(|at| now.since(at) >= PROVEN_STABLE);
        let failed = connection.link.reason() != Some(Reason::LinkDuplicate);
        self.failures = if lived { 0 } else { self.failures.saturating_add(u32::from(failed)) };
        self.last = now;
        self.not_before = now.plus(redial_delay(self.failures.saturating_sub(1), rand::random()));
    }
}

async fn outbound(connection: &mut Connection, peer: NodeId, endpoints: &[SocketAddr]) {
    let share =
        connection.shared.config.timing.handshake / u32::try_from(endpoints.len().max(1)).unwrap_or(1);
    let connecting = connect(endpoints.to_vec(), share);
    let Some((stream, remote)) = connection.step(connecting, |_| Reason::LinkUnreachable).await else {
        return;
    };
    connection.remote = Some(remote);
    connection.input(Input::Opened);
    if let Some(stream) = handshake(connection, peer, stream).await {
        pump::run(connection, stream, None).await;
    }
}

/// Tries the endpoints in order. Each gets an equal share of the handshake deadline.
async fn connect(endpoints: Vec<SocketAddr>, share: Duration) -> Result<(TcpStream, SocketAddr), Reason> {
    for endpoint in endpoints {
        match tokio::time::timeout(share, TcpStream::connect(endpoint)).await {
            Ok(Ok(stream)) if socket::tune(&stream).is_ok() => return Ok((stream, endpoint)),
            Ok(_) | Err(_) => tracing::debug!(%endpoint, "endpoint not connected"),
        }
    }
    Err(Reason::LinkUnreachable)
}

async fn handshake(
    connection: &mut Connection,
    peer: NodeId,
    stream: TcpStream,
) -> Option<TlsStream<TcpStream>> {
    let shared = connection.shared.clone();
    let time = shared.config.time.clone();
    let config = match link_client(&shared.trust, &shared.certificate, shared.config.cluster, peer, time) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "TLS client configuration refused");
            connection.input(Input::Broken(Reason::CertificateInvalid));
            return None;
        }
    };
    let connecting = TlsConnector::from(config).connect(any_server_name(), stream);
    let stream: TlsStream<TcpStream> = connection.step(connecting, reason_of_io).await?.into();
    identify(connection, &stream);
    Some(stream)
}

/// Shortest time between the end of an attempt and a dial on demand.
const DEMAND_PAUSE: Duration = Duration::from_secs(1);
/// A link that lived this long clears the count of failures.
const PROVEN_STABLE: Duration = Duration::from_secs(10);
