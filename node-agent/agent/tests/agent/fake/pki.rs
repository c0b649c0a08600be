//! Authorities and leaves.

use rap_runtime::tls::{CertificateCell, EKU_EXTENSION, EKU_OID, NodeIdentity, spki_sha256};
use rap_types::Digest;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CustomExtension, DnType, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::{Duration, OffsetDateTime};

/// A certificate authority.
pub struct Authority {
    pub der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params, key) }
    }

    pub fn pin(&self) -> Digest {
        spki_sha256(&self.der).unwrap()
    }

    /// A leaf of the control plane itself.
    pub fn server(&self) -> CertificateCell {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let leaf =
            CertificateParams::new(vec!["control".into()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let slot = CertificateCell::new();
        slot.set(vec![leaf.der().clone(), self.der.clone()], key.into()).unwrap();
        slot
    }

    /// A node's leaf for the key in `csr`.
    pub fn node(&self, identity: NodeIdentity, csr: &[u8], now_ms: i64, life_s: i64) -> Vec<u8> {
        let request = CertificateSigningRequestDer::from(csr);
        let request = CertificateSigningRequestParams::from_der(&request).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let mut eku = CustomExtension::from_oid_content(EKU_OID, EKU_EXTENSION.to_vec());
        eku.set_criticality(true);
        params.custom_extensions = vec![eku];
        let now = OffsetDateTime::from_unix_timestamp(now_ms / 1000).unwrap();
        params.not_before = now - Duration::seconds(5);
        params.not_after = now + Duration::seconds(life_s);
        params.signed_by(&request.public_key, &self.issuer).unwrap().der().to_vec()
    }
}
