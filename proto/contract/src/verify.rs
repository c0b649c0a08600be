//! The only door from bytes to a trusted document.

use std::ops::Deref;

use rap_types::{ClusterId, Digest, InstallationId, KeyId, Reason, Wall};

use crate::header::document_digest;
use crate::{Audience, Document, Envelope, HeaderTerms, KeySet, PublicKey, Reject};

/// What the caller requires of a document besides valid signatures.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expectation<'a> {
    /// Required installation, if pinned.
    pub installation: Option<InstallationId>,
    /// Required cluster; `Some(ClusterId::ZERO)` for installation scope.
    pub cluster: Option<ClusterId>,
    /// Acceptable audiences; empty accepts any.
    pub audience: &'a [Audience],
    /// Time for first acceptance; `None` when re-verifying what was accepted before.
    pub now: Option<Wall>,
    /// Critical features the caller knows.
    pub features: &'a [&'a str],
}

impl<'a> Expectation<'a> {
    /// Of this installation and cluster, for any audience, accepted before.
    pub const fn within(installation: InstallationId, cluster: ClusterId, features: &'a [&'a str]) -> Self {
        Self { installation: Some(installation), cluster: Some(cluster), audience: &[], now: None, features }
    }

    /// The same for one of these audiences.
    #[must_use]
    pub const fn for_one_of(self, audience: &'a [Audience]) -> Self {
        Self { audience, ..self }
    }
}

/// A document whose signatures, scope and times hold, with the exact bytes that proved it.
#[derive(Debug, Clone)]
pub struct Verified<T> {
    document: T,
    header: HeaderTerms,
    digest: Digest,
    signers: Vec<KeyId>,
    bytes: Vec<u8>,
}

impl<T> Verified<T> {
    /// The header's values.
    pub fn header(&self) -> &HeaderTerms {
        &self.header
    }

    /// SHA-256 over the signing bytes (DSSE encoding of type and payload).
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Distinct keys that signed.
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }

    /// The encoded envelope as it was received.
    pub fn envelope(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.document
    }
}

/// Verifies an encoded envelope as a `T`.
///
/// # Errors
/// In this order: `envelope.*`, `envelope.type`, `key.*`, `signature.*`, `payload.malformed`,
/// `header.*`, `clock.skew`, `authority.dev_refused`.
pub fn verify<T: Document>(
    bytes: &[u8],
    keys: &KeySet,
    expect: &Expectation<'_>,
) -> Result<Verified<T>, Reject> {
    verify_cosigned(bytes, keys, expect, |_: &T| Ok(None))
}

/// As [`verify`], for a type that a key named in its own payload must also sign.
pub(crate) fn verify_cosigned<T: Document>(
    bytes: &[u8],
    keys: &KeySet,
    expect: &Expectation<'_>,
    cosigner: impl Fn(&T) -> Result<Option<PublicKey>, Reject>,
) -> Result<Verified<T>, Reject> {
    let envelope = open_typed::<T>(bytes)?;
    let message = envelope.signing_bytes();
    let signatures = envelope.signatures();
    // The first signature is a pinned key's; the payload is read only after it holds.
    let (first, signature) = &signatures[0];
    let unsigned = |reject: Reject| Reject::new(reject.reason, T::NAME);
    keys.find(first, T::PAYLOAD_TYPE)?.verify(&message, signature).map_err(unsigned)?;
    let document =
        T::decode(envelope.payload()).map_err(|_| Reject::new(Reason::PayloadMalformed, T::NAME))?;
    let cosigner = cosigner(&document)?;
    let mut signers = vec![*first];
    for (id, signature) in &signatures[1..] {
        let key = match cosigner {
            Some(key) if key.id() == *id => key,
            _ => keys.find(id, T::PAYLOAD_TYPE)?,
        };
        key.verify(&message, signature).map_err(unsigned)?;
        Reject::when(signers.contains(id), Reason::SignatureMissing, "one key signed twice")?;
        signers.push(*id);
    }
    let required = keys.threshold() + usize::from(cosigner.is_some());
    let cosigned = cosigner.is_none_or(|key| signers[1..].contains(&key.id()));
    Reject::when(signers.len() < required || !cosigned, Reason::SignatureMissing, "too few keys signed")?;
    if required == 1 && signers.len() != 1 {
        return Err(Reject::new(Reason::SignatureMissing, "exactly one signature is allowed"));
    }
    let header = HeaderTerms::check(document.header(), *first, expect)?;
    Ok(Verified { document, header, digest: document_digest(&message), signers, bytes: bytes.to_vec() })
}

/// Verifies a document against the key it names itself: proves possession of that key and nothing else.
pub(crate) fn verify_self_named<T: Document>(
    bytes: &[u8],
    expect: &Expectation<'_>,
    named: impl Fn(&T) -> &[u8],
) -> Result<Verified<T>, Reject> {
    let envelope = open_typed::<T>(bytes)?;
    let unverified =
        T::decode(envelope.payload()).map_err(|_| Reject::new(Reason::PayloadMalformed, T::NAME))?;
    let key = PublicKey::from_slice(named(&unverified))?;
    verify(bytes, &KeySet::of::<T>(key), expect)
}

fn open_typed<T: Document>(bytes: &[u8]) -> Result<Envelope, Reject> {
    let envelope = Envelope::decode(bytes, T::SIZE_CAP)?;
    if envelope.payload_type() != T::PAYLOAD_TYPE {
        return Err(Reject::new(Reason::EnvelopeType, T::NAME));
    }
    Ok(envelope)
}
