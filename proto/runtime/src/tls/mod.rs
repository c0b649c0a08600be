//! TLS 1.3 as the product uses it: who the peer is, which authority vouches for it, which protocol.
//!
//! Owns the one crypto provider, the verifiers and the configurations. Refuses to own sockets,
//! handshake budgets and the decision which peers exist.

mod alpn;
mod certificate_cell;
mod config;
mod identity;
mod node;
mod pinned;
mod reject;
mod tls13;
mod trust;

use std::sync::{Arc, LazyLock};

use rustls::ConnectionCommon;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName};

pub use alpn::{ALPN_LINK, ALPN_NODE, ALPN_OPERATOR, Offer, require_alpn};
pub use certificate_cell::{CertificateCell, LeafSigner};
pub use config::{
    Time, link_client, link_server, node_client, node_server, operator_client, operator_server,
};
pub use identity::{EKU_EXTENSION, EKU_OID, NodeCertificate, NodeIdentity, ProvenNode, spki_sha256};
pub use pinned::Pins;
pub use reject::{PeerReject, reason_of};
pub use trust::{ClusterTrust, TrustStore, fingerprint};

/// The one crypto provider: aws-lc, X25519MLKEM768 before X25519, suites of TLS 1.3 only.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// What to hand to a TLS connector: servers are known by key, never by name, and no name is sent.
pub fn any_server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
}

/// 32 bytes that only the two ends of this connection know (RFC 5705), with an empty context.
pub fn exporter<D>(connection: &ConnectionCommon<D>, label: &str) -> Result<[u8; 32], rustls::Error> {
    connection.export_keying_material([0; 32], label.as_bytes(), Some(&[]))
}

/// The node at the other end. Only for connections whose configuration verifies nodes by `trust`.
pub fn peer(connection: &rustls::CommonState, trust: &TrustStore) -> Result<ProvenNode, PeerReject> {
    let leaf: &CertificateDer<'_> =
        connection.peer_certificates().and_then(<[_]>::first).ok_or(PeerReject::NoCertificate)?;
    trust.proven(leaf)
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
});

#[cfg(test)]
mod tests;
