//! Outbound connections. One task per desired peer keeps lane A connected.
//!
//! Owns the time of each dial, by the rules of `rap-link`, and the client side of the TLS handshake.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rap_link::{Input, Lane, Side, may_dial, redial_delay};
use rap_runtime::tls::{any_server_name, link_client};
use rap_types::{Mono, NodeId, Reason};
use rustls_pki_types::CertificateDer;
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
    let (mut backoff, mut terms) = (Backoff::default(), None);
    loop {
        let Some(entry) = link_peers.borrow_and_update().peers.get(&peer).cloned() else { return };
        let present = Some(Terms::of(&shared, &entry));
        if std::mem::replace(&mut terms, present.clone()) != present {
            backoff.start_over();
        }
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
        let now = shared.now().mono;
        let lived = connection.established_at.map(|at| now.since(at));
        backoff.after(connection.link.reason(), lived, now, rand::random());
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
    dial_as(shared, peer, side, endpoints, stop).await
}

/// Dials a connection of a session once and carries it to its end.
pub(crate) async fn dial_as(
    shared: Arc<Shared>,
    peer: NodeId,
    side: Side,
    endpoints: &[SocketAddr],
    stop: CancellationToken,
) -> Connection {
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

/// What of this node decides whether a dial succeeds. What failed under other terms says nothing about these.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Terms {
    endpoints: BTreeSet<SocketAddr>,
    leaf: Option<CertificateDer<'static>>,
    authorities: Vec<CertificateDer<'static>>,
}

impl Terms {
    fn of(shared: &Shared, entry: &Peer) -> Self {
        let trust = shared.trust.cluster(shared.config.cluster);
        Self {
            endpoints: entry.endpoints.iter().copied().collect(),
            leaf: shared.certificate.leaf(),
            authorities: trust.map(|trust| trust.authorities.clone()).unwrap_or_default(),
        }
    }
}

#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    /// How often in a row the peer closed before it said who it is.
    turned_away: u32,
    not_before: Mono,
    /// When the latest attempt ended.
    last: Mono,
}

impl Backoff {
    /// An attempt ended with this reason, after the link was up for so long.
    ///
    /// A link that lived for [`PROVEN_STABLE`], or that ended as a duplicate, is not a failure. A peer that is reached
    /// and shows a leaf that does not count gets another one as soon as its agent runs: it is not left alone for long.
    /// One that closes before it says anything has too many who come at once: whoever is turned away comes again soon, at
    /// a random time, and after [`TURNED_AWAY`] times as after another failure.
    fn after(&mut self, reason: Option<Reason>, lived: Option<Duration>, now: Mono, random: u32) {
        let stable = lived.is_some_and(|lived| lived >= PROVEN_STABLE);
        let silent = lived.is_none() && reason == Some(Reason::LinkClosed);
        self.turned_away = if silent { self.turned_away.saturating_add(1) } else { 0 };
        self.last = now;
        if (1..=TURNED_AWAY).contains(&self.turned_away) {
            self.not_before = now.plus(SOON.mul_f64(0.2 + f64::from(random) / f64::from(u32::MAX)));
            return;
        }
        let failed = reason != Some(Reason::LinkDuplicate);
        self.failures = if stable { 0 } else { self.failures.saturating_add(u32::from(failed)) };
        let delay = redial_delay(self.failures.saturating_sub(1), random);
        let refused = matches!(reason, Some(Reason::CertificateInvalid | Reason::NodeRevoked));
        self.not_before = now.plus(if refused { delay.min(REFUSED_MAX) } else { delay });
    }

    /// Earlier failures do not count any more. The next dial comes at once, but for a pause after the latest one.
    fn start_over(&mut self) {
        (self.failures, self.turned_away) = (0, 0);
        self.not_before = self.not_before.min(self.last.plus(DEMAND_PAUSE));
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
/// So often in a row a node that is turned away comes again soon: after 0.2 to 1.2 of this time.
const TURNED_AWAY: u32 = 8;
const SOON: Duration = Duration::from_secs(1);
/// Longest wait after a dial that ended on a certificate.
const REFUSED_MAX: Duration = Duration::from_secs(4);
/// A link that lived this long clears the count of failures.
const PROVEN_STABLE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn after(backoff: &mut Backoff, reason: Reason) -> Duration {
        let now = backoff.not_before;
        backoff.after(Some(reason), None, now, u32::MAX);
        backoff.not_before.since(now)
    }

    #[test]
    fn what_failed_before_a_new_certificate_or_endpoint_does_not_delay_the_next_dial() {
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            after(&mut backoff, Reason::LinkUnreachable);
        }
        assert_eq!(after(&mut backoff, Reason::LinkUnreachable), Duration::from_secs(30));
        backoff.start_over();
        assert_eq!(backoff.not_before.since(backoff.last), DEMAND_PAUSE, "at once, and not in a loop");
        assert_eq!(after(&mut backoff, Reason::LinkUnreachable), Duration::from_millis(250));
    }

    #[test]
    fn whoever_is_turned_away_comes_again_soon_eight_times_and_then_ever_later() {
        let mut backoff = Backoff::default();
        for _ in 0..TURNED_AWAY {
            assert_eq!(after(&mut backoff, Reason::LinkClosed), Duration::from_millis(1_200));
        }
        assert_eq!(after(&mut backoff, Reason::LinkClosed), Duration::from_millis(250));
        assert_eq!(after(&mut backoff, Reason::LinkClosed), Duration::from_millis(500));
        after(&mut backoff, Reason::LinkUnreachable);
        backoff.after(Some(Reason::LinkClosed), None, Mono(0), 0);
        assert_eq!(backoff.not_before, Mono(200_000_000), "and soon again");
        let lived = Some(Duration::from_millis(5));
        backoff.after(Some(Reason::LinkClosed), lived, Mono(0), u32::MAX);
        assert_eq!(backoff.not_before, Mono(2_000_000_000), "a link that stood was not turned away");
    }

    #[test]
    fn a_peer_whose_certificate_does_not_count_is_asked_again_soon() {
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            assert!(after(&mut backoff, Reason::NodeRevoked) <= REFUSED_MAX);
        }
        assert_eq!(after(&mut backoff, Reason::NodeRevoked), REFUSED_MAX);
    }
}
