//! Why a peer's certificate or protocol is refused.

use std::error::Error;
use std::sync::Arc;

use rap_types::{ClusterId, NodeId, Reason};
use rustls::{AlertDescription, CertificateError, OtherError};

/// Why a peer is refused. Nothing here repeats bytes that the peer chose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerReject {
    /// No certificate was presented.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// The certificate does not parse, or has an extension twice.
    #[error("the peer certificate is malformed")]
    Malformed,
    /// The leaf has not exactly one URI SAN and no other, or the URI is not a node's.
    #[error("the peer certificate does not carry exactly one node identity")]
    Identity,
    /// The leaf's key usage is not critical client and server authentication.
    #[error("the peer certificate is not for client and server authentication alone")]
    Usage,
    /// The leaf claims to be an authority, or the authority does not.
    #[error("an authority certificate stands where a leaf belongs, or the reverse")]
    Authority,
    /// The chain has more certificates than leaf and authority, or a foreign one.
    #[error("the peer's certificate chain is not leaf and authority")]
    Chain,
    /// The authority of that cluster did not sign the leaf.
    #[error("the peer certificate is not signed by the authority of its cluster")]
    Untrusted,
    /// Outside its validity.
    #[error("the peer certificate is expired or not valid yet")]
    Expired,
    /// The leaf names another installation than the cluster belongs to.
    #[error("the peer certificate names another installation")]
    Installation,
    /// This verifier knows no such cluster.
    #[error("cluster {0} is not trusted here")]
    Cluster(ClusterId),
    /// That key generation of the node was revoked.
    #[error("generation {generation} of node {node} was revoked")]
    Revoked {
        /// The node.
        node: NodeId,
        /// Key generation of the leaf.
        generation: u64,
    },
    /// The server is another node than the one dialled.
    #[error("node {found} answered where {dialled} was dialled")]
    WrongNode {
        /// The node that was dialled.
        dialled: NodeId,
        /// The node that the leaf names.
        found: NodeId,
    },
    /// The server's authority is not a pinned one.
    #[error("the server's authority is not the pinned one")]
    PinMismatch,
    /// The connection asks for, or agreed on, another protocol.
    #[error("the connection is not of the expected protocol")]
    Protocol,
}

impl PeerReject {
    /// Stable code.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::NoCertificate
            | Self::Malformed
            | Self::Usage
            | Self::Authority
            | Self::Chain
            | Self::Untrusted
            | Self::Expired => Reason::CertificateInvalid,
            Self::Identity | Self::Installation | Self::Cluster(_) | Self::WrongNode { .. } => {
                Reason::CertificateIdentity
            }
            Self::Revoked { .. } => Reason::NodeRevoked,
            Self::PinMismatch => Reason::PinMismatch,
            Self::Protocol => Reason::ChannelWrong,
        }
    }
}

impl From<PeerReject> for rustls::Error {
    /// Keeps the alert precise where TLS has one; the reason travels inside.
    fn from(reject: PeerReject) -> Self {
        match reject {
            PeerReject::NoCertificate => Self::NoCertificatesPresented,
            reject => Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reject)))),
        }
    }
}

/// Stable code of a failed handshake, if `error` (not its sources) is TLS's or this crate's.
pub fn reason_of(error: &(dyn Error + 'static)) -> Option<Reason> {
    if let Some(reject) = error.downcast_ref::<PeerReject>() {
        return Some(reject.reason());
    }
    match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            let reject = other.0.downcast_ref::<PeerReject>();
            Some(reject.map_or(Reason::CertificateInvalid, PeerReject::reason))
        }
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            Some(Reason::CertificateInvalid)
        }
        rustls::Error::NoApplicationProtocol
        | rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Some(Reason::ChannelWrong),
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::UnknownCA,
        ) => Some(Reason::CertificateInvalid),
        _ => None,
    }
}
