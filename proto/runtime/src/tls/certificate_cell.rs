//! Our own certificate: one slot that a renewal replaces while connections go on.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rap_types::Digest;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer};
use rustls::{Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{NodeCertificate, fingerprint, provider};

/// Holds the current leaf, its chain and its key. Empty at first: handshakes then fail. Clones are
/// the same slot; running connections keep the leaf they began with.
#[derive(Clone, Default)]
pub struct CertificateCell(Arc<Slot>);

impl CertificateCell {
    /// An empty slot.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses this leaf (first of `chain`) and key for handshakes from now on. A key that does not
    /// belong to the leaf is refused and the slot keeps what it had.
    pub fn set(&self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), Error> {
        let certified = CertifiedKey::from_der(chain, key, &provider())?;
        self.0.0.store(Some(Arc::new(certified)));
        Ok(())
    }

    /// Empties the slot.
    pub fn clear(&self) {
        self.0.0.store(None);
    }

    /// The leaf in use.
    pub fn leaf(&self) -> Option<CertificateDer<'static>> {
        self.0.0.load().as_ref().and_then(|certified| certified.cert.first().cloned())
    }

    /// Signs with the leaf in use, if there is one with an Ed25519 key.
    pub fn signer(&self) -> Option<LeafSigner> {
        let certified = self.0.0.load_full()?;
        let leaf = certified.cert.first()?.clone();
        let key = NodeCertificate::from_der(&leaf).ok()?.ed25519?;
        let signer = certified.key.choose_scheme(&[SignatureScheme::ED25519])?;
        Some(LeafSigner { leaf, key, signer })
    }

    /// Fingerprint of the authority that the chain in use names.
    pub fn authority(&self) -> Option<Digest> {
        self.0.0.load().as_ref().and_then(|certified| certified.cert.get(1).map(fingerprint))
    }

    pub(super) fn server(&self) -> Arc<dyn ResolvesServerCert> {
        self.0.clone()
    }

    pub(super) fn client(&self) -> Arc<dyn ResolvesClientCert> {
        self.0.clone()
    }
}

/// A leaf certificate and the use of its key.
pub struct LeafSigner {
    leaf: CertificateDer<'static>,
    key: [u8; 32],
    signer: Box<dyn Signer>,
}

impl LeafSigner {
    /// The certificate.
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// The public key.
    pub const fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The Ed25519 signature of exactly these bytes.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], Error> {
        let signature = self.signer.sign(message)?;
        signature.try_into().map_err(|_| Error::General("a signature has 64 bytes".into()))
    }
}

rap_types::debug_as!(LeafSigner, "LeafSigner(..)");

impl fmt::Debug for CertificateCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Default)]
struct Slot(ArcSwapOption<CertifiedKey>);

impl ResolvesServerCert for Slot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

impl ResolvesClientCert for Slot {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }

    fn has_certs(&self) -> bool {
        self.0.load().is_some()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.load().is_some() { "CertificateCell(set)" } else { "CertificateCell(empty)" })
    }
}
