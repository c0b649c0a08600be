//! Connections to the control plane from a chosen source address.
//!
//! Owns the rule that a line is one connection; dialling is the product's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rap_contract::EXPORTER_LABEL;
use rap_rpc::dial::{ControlUrl, Dial, ExporterSlot};
use rustls::ClientConfig;
use tonic::transport::Channel;

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
    let exporter = ExporterSlot::new(EXPORTER_LABEL);
    let (slot, dialled) = (exporter.clone(), Arc::new(AtomicBool::new(false)));
    let dial = Dial { source: Some(source), ..Dial::new(config, protocol, DEADLINE) };
    let url = ControlUrl::at(server);
    let opened = dial.open(&url, move |connection| {
        if dialled.swap(true, Ordering::Relaxed) {
            return Err(io::Error::other("a line is not dialled again"));
        }
        slot.fill(connection)
    });
    let channel = opened.await.with_context(|| format!("connect {source} to {server}"))?;
    Ok(Line { channel, exporter: exporter.read()? })
}

const DEADLINE: Duration = Duration::from_secs(10);
