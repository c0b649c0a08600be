//! Inbound connections.
//!
//! Owns the accept loop and the server side of the TLS handshake. An error of `accept` does not end the
//! loop; the end of the mesh does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rap_link::{Input, Side};
use rap_runtime::handshake_budget::{Handshake, HandshakeBudget};
use rap_runtime::tls::{ALPN_LINK, PeerReject, peer, require_alpn};
use rap_types::Reason;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_util::sync::CancellationToken;

use crate::config::Budget;
use crate::pump;
use crate::shared::{Connection, Shared, reason_of_io};
use crate::socket;

/// Accepts until the group is cancelled.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let Budget { in_flight, per_source } = shared.config.budget;
    let budget = HandshakeBudget::new(in_flight, per_source);
    let token = shared.tasks.token();
    loop {
        let accepted = tokio::select! {
            biased;
            () = token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, source)) => {
                let stop = token.child_token();
                match budget.take(source.ip(), shared.now().mono, stop.clone()) {
                    Some(place) => {
                        let inbound = inbound(shared.clone(), stream, source, place, stop);
                        shared.tasks.spawn("link-inbound", inbound);
                    }
                    None => shared.registry.reject(Reason::LinkBudget, 1),
                }
            }
            Err(error) => {
                // No descriptors are left, or the connection ended before it was accepted.
                tracing::debug!(%error, "accept failed");
                tokio::select! {
                    biased;
                    () = token.cancelled() => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

/// `stop` also fires when the place goes to another source.
async fn inbound(
    shared: Arc<Shared>,
    stream: TcpStream,
    source: SocketAddr,
    place: Handshake,
    stop: CancellationToken,
) {
    let mut connection = Connection::new(shared, Side::Acceptor, stop);
    connection.remote = Some(source);
    if let Some(stream) = handshake(&mut connection, stream).await {
        pump::run(&mut connection, stream, Some(place)).await;
    }
    connection.account();
}

async fn handshake(connection: &mut Connection, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    if let Err(error) = socket::tune(&stream) {
        connection.input(Input::Broken(reason_of_io(&error)));
        return None;
    }
    let acceptor = TlsAcceptor::from(connection.shared.server.clone());
    let stream: TlsStream<TcpStream> = connection.step(acceptor.accept(stream), reason_of_io).await?.into();
    identify(connection, &stream);
    Some(stream)
}

/// Reads the identity that the peer proved and tells the session.
pub(crate) fn identify(connection: &mut Connection, stream: &TlsStream<TcpStream>) {
    let (_, state) = stream.get_ref();
    match require_alpn(state, ALPN_LINK).and_then(|()| peer(state, &connection.shared.trust)) {
        Ok(node) => connection.proved(node),
        Err(reject) => connection.input(Input::Broken(PeerReject::reason(&reject))),
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
