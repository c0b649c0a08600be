//! X.509: the installation's TLS CA, the CAs of clusters, and the leaves they sign.
//!
//! Owns the shape of certificates. Refuses to own who deserves one: callers have decided.

use std::time::Duration;

use rap_runtime::tls::{EKU_EXTENSION, EKU_OID, NodeIdentity, spki_sha256};
use rap_types::{Digest, Reason, Wall};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CustomExtension, DistinguishedName,
    DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The request does not decode, its signature does not hold, or its key is not Ed25519.
    #[error("the certificate request is not a valid Ed25519 PKCS#10 request")]
    Request,
    /// A stored certificate or key does not decode, or they do not belong together.
    #[error("a stored certificate authority is damaged")]
    Authority,
    /// The generator or encoder failed.
    #[error("certificate: {0}")]
    Encoding(#[from] rcgen::Error),
}

impl CertificateError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Request => Reason::RequestInvalid,
            Self::Authority => Reason::SecretUnseal,
            Self::Encoding(_) => Reason::ServerInternal,
        }
    }
}

/// A certificate authority with its private key.
pub struct CertificateAuthority {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// A leaf for this control plane's own listener.
pub struct ServerCertificate {
    /// Leaf first, then the authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// Private key of the certificate.
    pub key: PrivateKeyDer<'static>,
    /// Last instant of validity.
    pub not_after: Wall,
}

impl CertificateAuthority {
    /// Makes an authority named `name`, valid for twenty years.
    pub fn generate(name: &str, now: Wall, serial: [u8; 16]) -> Result<Self, CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = params(name, now, AUTHORITY_LIFE, serial);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { certificate, key })
    }

    /// Puts a stored certificate and its unsealed key together.
    pub fn open(certificate: &[u8], pkcs8: &[u8]) -> Result<Self, CertificateError> {
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ED25519)
            .map_err(|_| CertificateError::Authority)?;
        let certificate = CertificateDer::from(certificate.to_vec());
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&certificate).map_err(|_| CertificateError::Authority)?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(CertificateError::Authority);
        }
        Ok(Self { certificate, key })
    }

    /// The authority's certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The private key, PKCS#8, for sealing.
    pub fn private_key(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.key.serialize_der())
    }

    /// SHA-256 of the subject public key info: what others pin.
    pub fn pin(&self) -> Result<Digest, CertificateError> {
        spki_sha256(&self.certificate).map_err(|_| CertificateError::Authority)
    }

    /// Issues a node's leaf for the key in a PKCS#10 request. Nothing but the key is taken from it.
    pub fn node_certificate(
        &self,
        identity: &NodeIdentity,
        request: &[u8],
        now: Wall,
        lifetime: Duration,
        serial: [u8; 16],
    ) -> Result<(Vec<u8>, Wall), CertificateError> {
        let request = CertificateSigningRequestDer::from(request);
        let request =
            CertificateSigningRequestParams::from_der(&request).map_err(|_| CertificateError::Request)?;
        if *request.public_key.algorithm() != PKCS_ED25519 {
            return Err(CertificateError::Request);
        }
        let mut params = certificate_params(&identity.node.to_string(), now, lifetime, serial);
        let uri = identity.to_string().try_into().map_err(CertificateError::Encoding)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let not_after = wall(params.not_after);
        let leaf = params.signed_by(&request.public_key, &self.issuer()?)?;
        Ok((leaf.der().to_vec(), not_after))
    }

    /// Issues a leaf for this control plane under the names in `hosts`.
    pub fn server_certificate(
        &self,
        hosts: &[String],
        now: Wall,
        lifetime: Duration,
        serial: [u8; 16],
    ) -> Result<ServerCertificate, CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = certificate_params("rap-control-plane", now, lifetime, serial);
        params.subject_alt_names = CertificateParams::new(hosts.to_vec())?.subject_alt_names;
        let not_after = wall(params.not_after);
        let leaf = params.signed_by(&key, &self.issuer()?)?;
        Ok(ServerCertificate {
            chain: vec![leaf.der().clone(), self.certificate.clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            not_after,
        })
    }

    fn issuer(&self) -> Result<Issuer<'static, &KeyPair>, CertificateError> {
        Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(|_| CertificateError::Authority)
    }
}

rap_types::debug_as!(CertificateAuthority, "Authority(..)");

fn certificate_params(name: &str, now: Wall, lifetime: Duration, serial: [u8; 16]) -> CertificateParams {
    let mut params = params(name, now, lifetime, serial);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    let mut usage = CustomExtension::from_oid_content(EKU_OID, EKU_EXTENSION.to_vec());
    usage.set_criticality(true);
    params.custom_extensions = vec![usage];
    params
}

fn params(name: &str, now: Wall, lifetime: Duration, mut serial: [u8; 16]) -> CertificateParams {
    // A positive integer without a leading zero octet (RFC 5280 section 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = instant(now.minus(BACKDATE));
    params.not_after = instant(now.plus(lifetime));
    params
}

fn instant(at: Wall) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.0 / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn wall(at: OffsetDateTime) -> Wall {
    Wall(at.unix_timestamp().saturating_mul(1000))
}

/// Tolerates clocks that are a little behind.
const BACKDATE: Duration = Duration::from_secs(60);

const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);

impl From<CertificateError> for Failure {
    fn from(error: CertificateError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_runtime::tls::NodeCertificate;
    use rap_types::ClusterId;
    use rap_types::InstallationId;
    use rap_types::NodeId;

    const NOW: Wall = Wall(1_800_000_000_000);

    fn identity() -> NodeIdentity {
        NodeIdentity {
            installation: InstallationId::from_bytes([1; 16]),
            cluster: ClusterId::from_bytes([2; 16]),
            node: NodeId::from_bytes([3; 16]),
            key_generation: 4,
        }
    }

    #[test]
    fn a_node_leaf_takes_only_the_key_from_the_request() {
        let authority = CertificateAuthority::generate("cluster", NOW, [1; 16]).unwrap();
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut wish = CertificateParams::new(vec!["evil.example".into()]).unwrap();
        wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request = wish.serialize_request(&key).unwrap();
        let (leaf, not_after) = authority
            .node_certificate(&identity(), request.der(), NOW, Duration::from_secs(86_400), [2; 16])
            .unwrap();
        let read = NodeCertificate::from_der(&leaf).unwrap();
        assert_eq!(read.identity, identity());
        assert_eq!((read.not_after, read.not_before), (not_after, NOW.minus(BACKDATE)));
        assert_eq!(not_after, NOW.plus(Duration::from_secs(86_400)));
    }

    #[test]
    fn requests_that_are_garbage_altered_or_of_another_algorithm_are_refused() {
        let authority = CertificateAuthority::generate("cluster", NOW, [1; 16]).unwrap();
        let issue = |request: &[u8]| {
            authority.node_certificate(&identity(), request, NOW, Duration::from_secs(60), [2; 16]).is_ok()
        };
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        assert!(issue(&request));
        let mut altered = request.clone();
        *altered.last_mut().unwrap() ^= 1;
        assert!(!issue(&altered));
        assert!(!issue(b"garbage"));
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        assert!(!issue(CertificateParams::default().serialize_request(&other).unwrap().der()));
    }

    #[test]
    fn a_stored_authority_opens_with_its_own_key_only() {
        let one = CertificateAuthority::generate("one", NOW, [1; 16]).unwrap();
        let two = CertificateAuthority::generate("two", NOW, [2; 16]).unwrap();
        assert!(CertificateAuthority::open(one.certificate(), &one.private_key()).is_ok());
        assert!(CertificateAuthority::open(one.certificate(), &two.private_key()).is_err());
        assert!(CertificateAuthority::open(b"x", &one.private_key()).is_err());
        assert_ne!(one.pin().unwrap(), two.pin().unwrap());
    }
}
