//! Verifiers of nodes: who dials us, and who answers where we dialled.
//!
//! Identity comes from the leaf certificate alone; addresses and server names decide nothing.

use rap_types::{ClusterId, NodeId};
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DistinguishedName, Error};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::tls13::tls13_only;
use super::{PeerReject, TrustStore};

/// Accepts any node of any trusted cluster as a client.
#[derive(Debug)]
pub(super) struct NodeClients {
    pub(super) trust: TrustStore,
}

/// Accepts one node of one cluster as a server.
#[derive(Debug)]
pub(super) struct DialledNode {
    pub(super) trust: TrustStore,
    pub(super) cluster: ClusterId,
    pub(super) node: NodeId,
}

impl ClientCertVerifier for NodeClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.verify(leaf, rest, now)?;
        Ok(ClientCertVerified::assertion())
    }

    tls13_only!();
}

impl ServerCertVerifier for DialledNode {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = self.trust.verify(leaf, rest, now)?.identity;
        if found.cluster != self.cluster {
            return Err(PeerReject::Cluster(found.cluster).into());
        }
        if found.node != self.node {
            return Err(PeerReject::WrongNode { dialled: self.node, found: found.node }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    tls13_only!();
}
