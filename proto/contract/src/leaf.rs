//! Documents that a node signs with the key of its leaf certificate.
//!
//! Owns which documents these are: a leaf key signs no others. Refuses to own certificates: whoever verifies chains
//! says whose key it is.

use rap_types::{NodeId, Reason, Wall};
use rap_wire::v1;

use crate::{
    Document, Expectation, KeySet, PublicKey, Reject, Verified, pre_authentication_encoding, verify,
};

/// Cap on a leaf certificate beside a document, bytes.
pub const LEAF_CAP: usize = 2 * 1024;

/// What a leaf certificate says, after its chain, its times and its standing were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafKey {
    /// Id of the node that the certificate names.
    pub node: NodeId,
    /// Generation of the node's key that the certificate names.
    pub key_generation: u64,
    /// Key of the certificate.
    pub key: PublicKey,
    /// Last instant at which the certificate is valid.
    pub not_after: Wall,
}

/// Checks leaf certificates of one cluster.
pub trait LeafTrust {
    /// Checks a DER certificate: shape, cluster, chain to the authority of the cluster, times, revocation.
    ///
    /// # Errors
    /// `certificate.*`, `node.revoked`.
    fn check(&self, leaf: &[u8]) -> Result<LeafKey, Reject>;
}

/// A document that a leaf key may sign.
pub trait LeafDocument: Document {
    /// Id of the node whose leaf must have signed, as the document states it.
    fn source(&self) -> &[u8];
}

impl LeafDocument for v1::PathInstall {
    fn source(&self) -> &[u8] {
        &self.source
    }
}

impl LeafDocument for v1::RelayRow {
    fn source(&self) -> &[u8] {
        &self.relay
    }
}

/// As [`verify`], by the key of the DER certificate `leaf`, which must name the source of the document.
///
/// # Errors
/// In this order: `certificate.invalid` for an oversize leaf, `envelope.too_large`, those of [`LeafTrust::check`], those of
/// [`verify`], `certificate.identity`.
pub(crate) fn verify_by_leaf<T: LeafDocument>(
    bytes: &[u8],
    leaf: &[u8],
    trust: &dyn LeafTrust,
    expect: &Expectation<'_>,
) -> Result<(Verified<T>, LeafKey), Reject> {
    Reject::when(leaf.len() > LEAF_CAP, Reason::CertificateInvalid, "a leaf has at most 2 KiB")?;
    Reject::when(bytes.len() > T::SIZE_CAP, Reason::EnvelopeTooLarge, "signed object")?;
    let leaf = trust.check(leaf)?;
    let document: Verified<T> = verify(bytes, &KeySet::of::<T>(leaf.key), expect)?;
    if document.source() != leaf.node.as_bytes() {
        return Err(Reject::new(Reason::CertificateIdentity, "the leaf does not name the source"));
    }
    Ok((document, leaf))
}

/// Signs a document with a leaf key that `sign` has: it returns the Ed25519 signature of exactly these bytes.
///
/// # Errors
/// The errors that `sign` returns.
pub fn sign_by_leaf<T: LeafDocument, E>(
    document: &T,
    key: &PublicKey,
    sign: impl FnOnce(&[u8]) -> Result<[u8; 64], E>,
) -> Result<Vec<u8>, E> {
    let payload = document.encode_to_vec();
    let sig = sign(&pre_authentication_encoding(T::PAYLOAD_TYPE, &payload))?.to_vec();
    let signatures = vec![v1::Signature { key_id: key.id().to_vec(), sig }];
    let envelope = v1::SignedEnvelope { payload_type: T::PAYLOAD_TYPE.to_owned(), payload, signatures };
    Ok(prost::Message::encode_to_vec(&envelope))
}
