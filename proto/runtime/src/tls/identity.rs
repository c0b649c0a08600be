//! The identity in a leaf certificate: one URI, and nothing else in it counts.
//!
//! Owns the form of the URI and the shape of a leaf. Refuses to own trust: who signed it is the
//! verifiers' question.

use std::fmt;
use std::str::FromStr;

use rap_types::{ClusterId, Digest, InstallationId, NodeId, Wall};
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};

use super::PeerReject;

/// Who a leaf is for: `rap://<installation>/<cluster>/<node>/<key generation>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeIdentity {
    /// Control plane deployment.
    pub installation: InstallationId,
    /// Cluster whose authority signs the leaf.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Counts the node's identity keys; a revocation covers a generation and all before it.
    pub key_generation: u64,
}

/// What a well-formed leaf says. Its signature is not checked here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeCertificate {
    /// Who it is for.
    pub identity: NodeIdentity,
    /// First instant of validity.
    pub not_before: Wall,
    /// Last instant of validity.
    pub not_after: Wall,
    /// SHA-256 of the subject public key info.
    pub spki: Digest,
    /// The key, if it is an Ed25519 key.
    pub ed25519: Option<[u8; 32]>,
}

/// A node that proved its identity on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenNode {
    /// Who it is.
    pub identity: NodeIdentity,
    /// Last instant of validity of its leaf.
    pub not_after: Wall,
    /// SHA-256 of the certificate of the authority that signed its leaf.
    pub authority: Digest,
}

impl fmt::Display for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { installation, cluster, node, key_generation } = self;
        write!(f, "{SCHEME}{installation}/{cluster}/{node}/{key_generation}")
    }
}

impl FromStr for NodeIdentity {
    type Err = PeerReject;

    /// Reads the one canonical form: what prints differently is refused.
    fn from_str(uri: &str) -> Result<Self, PeerReject> {
        let mut parts = uri.strip_prefix(SCHEME).ok_or(PeerReject::Identity)?.split('/');
        let mut part = || parts.next().ok_or(PeerReject::Identity);
        let identity = Self {
            installation: part()?.parse().map_err(|_| PeerReject::Identity)?,
            cluster: part()?.parse().map_err(|_| PeerReject::Identity)?,
            node: part()?.parse().map_err(|_| PeerReject::Identity)?,
            key_generation: part()?.parse().map_err(|_| PeerReject::Identity)?,
        };
        if identity.to_string() == uri { Ok(identity) } else { Err(PeerReject::Identity) }
    }
}

impl NodeCertificate {
    /// Reads a leaf: exactly one SAN, a node URI; critical key usage for client and server; not an
    /// authority. The subject, common name included, is never read.
    pub fn from_der(der: &[u8]) -> Result<Self, PeerReject> {
        let certificate = parse(der)?;
        let mut uri = None;
        let mut usage = false;
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    let [GeneralName::URI(name)] = names.general_names.as_slice() else {
                        return Err(PeerReject::Identity);
                    };
                    uri = Some(*name);
                }
                ParsedExtension::ExtendedKeyUsage(purposes) => {
                    usage = extension.critical && only_client_and_server(purposes);
                }
                ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                    return Err(PeerReject::Authority);
                }
                ParsedExtension::KeyUsage(key_usage) if !key_usage.digital_signature() => {
                    return Err(PeerReject::Usage);
                }
                ParsedExtension::ParseError { .. } => return Err(PeerReject::Malformed),
                _ => {}
            }
        }
        if !usage {
            return Err(PeerReject::Usage);
        }
        Ok(Self {
            identity: uri.ok_or(PeerReject::Identity)?.parse()?,
            not_before: wall(certificate.validity().not_before),
            not_after: wall(certificate.validity().not_after),
            spki: Digest::of(&[certificate.public_key().raw]),
            ed25519: ed25519_key(certificate.public_key().raw),
        })
    }
}

/// The key in a subject public key info of RFC 8410.
fn ed25519_key(spki: &[u8]) -> Option<[u8; 32]> {
    spki.strip_prefix(ED25519_SPKI)?.try_into().ok()
}

/// SHA-256 of a certificate's subject public key info: what a pin names.
pub fn spki_sha256(der: &[u8]) -> Result<Digest, PeerReject> {
    Ok(Digest::of(&[parse(der)?.public_key().raw]))
}

/// One certificate and no byte after it, version 3, no extension twice.
pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, PeerReject> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| PeerReject::Malformed)?;
    let unique = certificate.extensions_map().is_ok();
    if rest.is_empty() && unique && certificate.version() == X509Version::V3 {
        Ok(certificate)
    } else {
        Err(PeerReject::Malformed)
    }
}

fn only_client_and_server(purposes: &ExtendedKeyUsage<'_>) -> bool {
    let ExtendedKeyUsage {
        any,
        server_auth,
        client_auth,
        code_signing,
        email_protection,
        time_stamping,
        ocsp_signing,
        other,
    } = purposes;
    let more = *any || *code_signing || *email_protection || *time_stamping || *ocsp_signing;
    *server_auth && *client_auth && !more && other.is_empty()
}

fn wall(time: x509_parser::time::ASN1Time) -> Wall {
    Wall(time.timestamp().saturating_mul(1000))
}

/// Object identifier of the extended key usage extension, for issuers of leaves.
pub const EKU_OID: &[u64] = &[2, 5, 29, 37];

/// Content of a leaf's extended key usage, which must be critical: SEQUENCE { serverAuth, clientAuth }.
pub const EKU_EXTENSION: &[u8] = &[
    0x30, 0x14, // SEQUENCE
    0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01, // serverAuth
    0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02, // clientAuth
];

/// What precedes an Ed25519 key in a subject public key info.
const ED25519_SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

const SCHEME: &str = "rap://";
