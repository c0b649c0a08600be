//! Ed25519 keys under the product's profile: strict verification, no weak or non-canonical keys.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use rap_types::{KeyId, Reason};
use zeroize::Zeroizing;

use crate::Reject;

/// A public key that decodes, is not weak and is canonically encoded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Admits raw key bytes.
    ///
    /// # Errors
    /// `key.invalid` for a wrong length, a point off the curve, a small-order point or a second
    /// encoding of a point.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Reject> {
        let invalid = |what| Reject::new(Reason::KeyInvalid, what);
        let raw: [u8; 32] = bytes.try_into().map_err(|_| invalid("a public key has 32 bytes"))?;
        let key = VerifyingKey::from_bytes(&raw).map_err(|_| invalid("not a curve point"))?;
        if key.is_weak() {
            return Err(invalid("small-order point"));
        }
        if key.to_edwards().compress().to_bytes() != raw {
            return Err(invalid("non-canonical encoding"));
        }
        Ok(Self(raw))
    }

    /// The raw key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The raw key, owned.
    pub fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// SHA-256 of the raw key.
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.0)
    }

    /// Checks a 64-byte signature strictly (no malleability, no small-order components).
    ///
    /// # Errors
    /// `signature.invalid`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Reject> {
        let invalid = |what| Reject::new(Reason::SignatureInvalid, what);
        let signature = Signature::from_slice(signature).map_err(|_| invalid("a signature has 64 bytes"))?;
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| invalid("key"))?;
        key.verify_strict(message, &signature).map_err(|_| invalid("does not verify"))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

rap_types::debug_as!(PublicKey, |key| "PublicKey({key})");

/// A private key. Prints only its key id; wiped when dropped.
pub struct Signer(SigningKey);

impl Signer {
    /// Makes a new key from the given generator.
    pub fn generate<R: rand_core::CryptoRng + ?Sized>(generator: &mut R) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        generator.fill_bytes(seed.as_mut_slice());
        Self::from_seed(&seed)
    }

    /// The key of a 32-byte seed (RFC 8032 secret key).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The 32-byte seed, for sealing or a private file.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// SHA-256 of the public half.
    pub fn id(&self) -> KeyId {
        self.public().id()
    }

    /// Signs exact bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

rap_types::debug_as!(Signer, |signer| "Signer({})", signer.id());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_short_long_and_non_canonical_keys_are_refused() {
        let reason = |bytes: &[u8]| PublicKey::from_slice(bytes).unwrap_err();
        assert_eq!(reason(&[0; 31]).what, "a public key has 32 bytes");
        assert_eq!(reason(&[0; 33]).what, "a public key has 32 bytes");
        assert_eq!(reason(&[0; 32]).what, "small-order point");
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(reason(&identity).what, "small-order point");
        // y = p + 3: a second encoding of y = 3, if that is on the curve; else off the curve.
        for low in 0..19u8 {
            let mut bytes = [0xff; 32];
            bytes[0] = 0xed + low;
            bytes[31] = 0x7f;
            assert_eq!(reason(&bytes).reason, Reason::KeyInvalid, "p + {low}");
        }
    }

    #[test]
    fn a_signature_holds_for_its_message_and_key_only() {
        let signer = Signer::from_seed(&[7; 32]);
        let signature = signer.sign(b"message");
        assert_eq!(signer.public().verify(b"message", &signature), Ok(()));
        assert!(signer.public().verify(b"massage", &signature).is_err());
        assert!(Signer::from_seed(&[8; 32]).public().verify(b"message", &signature).is_err());
        assert!(signer.public().verify(b"message", &signature[..63]).is_err());
    }

    /// A signature that only its key's owner can make, with the neutral point as R and s = H(R, A, M) a: it fits the plain equation.
    /// Two verifiers that differ on it would take different histories for signed.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "what the strict rules refuse is what the plain ones accept"
    )]
    fn a_signature_with_a_small_order_point_is_refused_though_it_fits_the_plain_equation() {
        let mut signature = [0; 64];
        signature[0] = 1;
        signature[32..].copy_from_slice(&[
            0xd4, 0xc5, 0x32, 0x31, 0x31, 0xff, 0x96, 0x83, 0xcf, 0xb3, 0xd3, 0x01, 0x97, 0xc7, 0x86, 0xc9,
            0x04, 0x3f, 0x10, 0x52, 0xd6, 0xc2, 0xd5, 0x29, 0x3f, 0x19, 0xd6, 0xf3, 0x6b, 0x91, 0x11, 0x04,
        ]);
        let key = Signer::from_seed(&[7; 32]).public();
        let plain = VerifyingKey::from_bytes(&key.0).unwrap();
        let parsed = Signature::from_bytes(&signature);
        assert!(ed25519_dalek::Verifier::verify(&plain, b"message", &parsed).is_ok());
        assert_eq!(key.verify(b"message", &signature).unwrap_err().reason, Reason::SignatureInvalid);
    }

    #[test]
    fn debug_of_a_private_key_shows_its_id_only() {
        let signer = Signer::from_seed(&[7; 32]);
        assert_eq!(format!("{signer:?}"), format!("Signer({})", signer.id()));
    }
}
