//! The TLS configurations of the product: three kinds of connection, both ends of each.
//!
//! All of them: TLS 1.3 only, one protocol name, no resumption, no tickets, no early data, no name
//! sent to the server, times from the clock that the caller gives.

use std::sync::Arc;

use rap_types::{ClusterId, NodeId};
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, Error, ServerConfig};

use super::node::{DialledNode, NodeClients};
use super::pinned::PinnedServer;
use super::{ALPN_LINK, ALPN_NODE, ALPN_OPERATOR, CertificateCell, Pins, TrustStore, provider};

/// Where verifiers read the time: a [`crate::Clock`], or a node's trusted time.
pub type Time = Arc<dyn TimeProvider>;

/// Operators and applicants to the control plane: pinned server, no client certificate.
pub fn operator_client(pins: Pins, time: Time) -> Result<Arc<ClientConfig>, Error> {
    client(Arc::new(PinnedServer { pins }), None, ALPN_OPERATOR, time)
}

/// An agent to the control plane: pinned server, the node's certificate.
pub fn node_client(pins: Pins, leaf: &CertificateCell, time: Time) -> Result<Arc<ClientConfig>, Error> {
    client(Arc::new(PinnedServer { pins }), Some(leaf), ALPN_NODE, time)
}

/// A node that dials `node` of `cluster`: no other node may answer.
pub fn link_client(
    trust: &TrustStore,
    leaf: &CertificateCell,
    cluster: ClusterId,
    node: NodeId,
    time: Time,
) -> Result<Arc<ClientConfig>, Error> {
    let verifier = DialledNode { trust: trust.clone(), cluster, node };
    client(Arc::new(verifier), Some(leaf), ALPN_LINK, time)
}

/// The control plane towards operators and applicants. The slot's chain must end with the pinned
/// authority.
pub fn operator_server(leaf: &CertificateCell, time: Time) -> Result<Arc<ServerConfig>, Error> {
    server(None, leaf, ALPN_OPERATOR, time)
}

/// The control plane towards agents: a certificate of a trusted cluster is required. The slot's
/// chain must end with the pinned authority.
pub fn node_server(
    leaf: &CertificateCell,
    trust: &TrustStore,
    time: Time,
) -> Result<Arc<ServerConfig>, Error> {
    server(Some(trust), leaf, ALPN_NODE, time)
}

/// A node that other nodes dial: a certificate of a trusted cluster is required.
pub fn link_server(
    leaf: &CertificateCell,
    trust: &TrustStore,
    time: Time,
) -> Result<Arc<ServerConfig>, Error> {
    server(Some(trust), leaf, ALPN_LINK, time)
}

fn client(
    verifier: Arc<dyn ServerCertVerifier>,
    leaf: Option<&CertificateCell>,
    protocol: &[u8],
    time: Time,
) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match leaf {
        Some(leaf) => builder.with_client_cert_resolver(leaf.client()),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok(Arc::new(config))
}

fn server(
    clients: Option<&TrustStore>,
    leaf: &CertificateCell,
    protocol: &[u8],
    time: Time,
) -> Result<Arc<ServerConfig>, Error> {
    let builder = ServerConfig::builder_with_details(provider(), time).with_protocol_versions(&[&TLS13])?;
    let builder = match clients {
        Some(trust) => {
            let verifier: Arc<dyn ClientCertVerifier> = Arc::new(NodeClients { trust: trust.clone() });
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(leaf.server());
    config.alpn_protocols = vec![protocol.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}
