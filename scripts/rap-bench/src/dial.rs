//! Connections to the control plane from a chosen source address.
//!
//! Owns sockets and handshakes; the TLS configurations are the product's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper_util::rt::TokioIo;
use rap_contract::EXPORTER_LABEL;
use rap_runtime::tls;
use rustls::ClientConfig;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

/// One connection: gRPC over TLS, and what binds proofs to it.
#[derive(Debug)]
pub struct Line {
    /// For the generated clients.
    pub channel: Channel,
    /// 32 bytes that only the two ends know.
    pub exporter: [u8; 32],
}

/// Connects to `server` from `source`.
///
/// # Errors
/// When no connection of this protocol is up within ten seconds.
pub async fn dial(
    server: SocketAddr,
    source: IpAddr,
    config: Arc<ClientConfig>,
    protocol: &'static [u8],
) -> Result<Line> {
    let line = tokio::time::timeout(DEADLINE, connect(server, source, config, protocol)).await;
    line.context("no connection in time")?.with_context(|| format!("connect {source} to {server}"))
}

async fn connect(
    server: SocketAddr,
    source: IpAddr,
    config: Arc<ClientConfig>,
    protocol: &'static [u8],
) -> Result<Line> {
    let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(source, 0))?;
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(config).connect(tls::any_server_name(), stream).await?;
    let connection = stream.get_ref().1;
    tls::require_alpn(connection, protocol)?;
    let exporter = tls::exporter(connection, EXPORTER_LABEL)?;
    let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(stream.ok_or_else(|| io::Error::other("a line is not dialled again")))
    });
    let channel = Endpoint::from_static("http://control").connect_with_connector(connector).await?;
    Ok(Line { channel, exporter })
}

const DEADLINE: Duration = Duration::from_secs(10);
