//! A certificate as a node keeps it, shown to another node's link port or to a control plane: taken or refused.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rap_runtime::Clock;
use rap_runtime::tls::{
    self, CertificateCell, ClusterTrust, NodeCertificate, NodeIdentity, Pins, TrustStore,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::Value;

use super::scene::membership;
use crate::fabric::{Control, Node};

/// The certificate of a node.
pub struct PresentedLeaf {
    /// Whose it is.
    pub identity: NodeIdentity,
    /// The CA that signed it.
    pub authority: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl PresentedLeaf {
    /// The one that the node keeps now.
    pub fn of(node: &Node) -> Result<Self> {
        Self::in_file(&membership(node).join("certificate.json"))
    }

    /// The one in a file of the form in which nodes keep them.
    pub fn in_file(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let document: Value = serde_json::from_str(&text)?;
        let bytes = |name: &str| -> Result<Vec<u8>> {
            let text =
                document["body"][name].as_str().with_context(|| format!("{name} of {}", path.display()))?;
            Ok(BASE64_STANDARD.decode(text)?)
        };
        let certificate = bytes("certificate")?;
        Ok(Self {
            identity: NodeCertificate::from_der(&certificate)?.identity,
            authority: bytes("authority")?.into(),
            certificate: certificate.into(),
            key: bytes("private_key")?,
        })
    }

    /// Shows it from the host of `from` to the link port of `to`, which is known by `server`. The refusal, if it is one.
    pub fn shown_to(&self, from: &Node, to: &Node, server: &Self) -> Result<Option<String>> {
        let (cell, trust) = (self.cell()?, TrustStore::new());
        let NodeIdentity { installation, cluster, node, .. } = server.identity;
        let authorities = vec![server.authority.clone()];
        trust.replace(cluster, ClusterTrust { installation, authorities, revoked: Default::default() });
        let config = tls::link_client(&trust, &cell, cluster, node, Arc::new(Clock::new()))?;
        answer(from, SocketAddr::from((to.host().address(), 7443)), config)
    }

    /// Shows it from the host of `from` to this port of the control plane. The refusal, if it is one.
    pub fn shown_to_control(&self, from: &Node, control: &Control, port: u16) -> Result<Option<String>> {
        let config =
            tls::node_client(Pins::one(control.pin()?.parse()?), &self.cell()?, Arc::new(Clock::new()))?;
        answer(from, SocketAddr::from((control.host().address(), port)), config)
    }

    fn cell(&self) -> Result<CertificateCell> {
        let cell = CertificateCell::new();
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        cell.set(vec![self.certificate.clone(), self.authority.clone()], key.into())?;
        Ok(cell)
    }
}

/// The refusal of the other side; `None` if it waits for what comes next.
fn answer(from: &Node, address: SocketAddr, config: Arc<rustls::ClientConfig>) -> Result<Option<String>> {
    from.host().view().enter(|| {
        let mut stream = TcpStream::connect_timeout(&address, SOON)?;
        stream.set_read_timeout(Some(SOON))?;
        let mut connection = rustls::ClientConnection::new(config, tls::any_server_name())?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        // The other side judges a certificate after the own side of the handshake is done. Then it waits for a hello.
        let mut link = rustls::Stream::new(&mut connection, &mut stream);
        Ok(match link.read(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => Some(error.to_string()),
            Ok(0) => Some("closed".to_owned()),
            // A control plane says its settings first.
            Ok(_) => None,
        })
    })
}

const SOON: Duration = Duration::from_secs(2);
