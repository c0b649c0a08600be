//! Operator sessions: a bearer secret names its operator and its end; its stored hash is keyed.
//!
//! Owns the form of a bearer. A row whose hash was not made under the session key matches no bearer, so write access to
//! the database gives nobody a session. Refuses to own the rows.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand_core::CryptoRng;
use rap_contract::PublicKey;
use rap_types::{Digest, Wall};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{SealingKey, ids};

/// Key of session hashes, derived from the key encryption key, so that replicas agree.
#[derive(Clone)]
pub struct SessionKey(Zeroizing<[u8; 32]>);

/// A session that was just made.
pub struct IssuedSession {
    /// What the operator sends with each call. Secret.
    pub bearer: Zeroizing<String>,
    /// What the database keeps.
    pub claim: SessionClaim,
}

/// What a bearer says of itself. True only if the database holds its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionClaim {
    /// Under which it is stored.
    pub hash: Digest,
    /// Key that logged in.
    pub operator: PublicKey,
    /// When it ends.
    pub expires_at: Wall,
}

impl SessionKey {
    /// The session key of a key encryption key.
    pub fn of(kek: &SealingKey) -> Self {
        Self(kek.derive("rap.session.v1"))
    }

    /// Makes a session of `operator`.
    pub fn issue(
        &self,
        operator: PublicKey,
        expires_at: Wall,
        generator: &mut dyn CryptoRng,
    ) -> IssuedSession {
        let secret = Zeroizing::new(ids::random::<32>(generator));
        let mut body = Zeroizing::new(secret.to_vec());
        body.extend_from_slice(operator.as_bytes());
        body.extend_from_slice(&expires_at.0.to_be_bytes());
        let bearer = Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(body.as_slice())));
        let claim = SessionClaim { hash: self.hash(&body), operator, expires_at };
        IssuedSession { bearer, claim }
    }

    /// Reads a bearer; `None` if it has another form.
    pub fn read(&self, bearer: &str) -> Option<SessionClaim> {
        let body = Zeroizing::new(URL_SAFE_NO_PAD.decode(bearer.strip_prefix(PREFIX)?).ok()?);
        let (_, rest) = body.split_at_checked(32)?;
        let (operator, expires_at) = rest.split_at_checked(32)?;
        Some(SessionClaim {
            hash: self.hash(&body),
            operator: PublicKey::from_slice(operator).ok()?,
            expires_at: Wall(i64::from_be_bytes(expires_at.try_into().ok()?)),
        })
    }

    fn hash(&self, body: &[u8]) -> Digest {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes keys of any length");
        mac.update(body);
        Digest::from_bytes(mac.finalize().into_bytes().into())
    }
}

rap_types::debug_as!(SessionKey, "SessionKey");

rap_types::debug_as!(IssuedSession, "IssuedSession");

const PREFIX: &str = "raps1.";

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rap_contract::Signer;

    #[test]
    fn a_bearer_reads_back_and_its_hash_needs_the_key() {
        let mut generator = rand::rngs::StdRng::seed_from_u64(1);
        let key = SessionKey::of(&SealingKey::from_slice(&[1; 32]).unwrap());
        let other = SessionKey::of(&SealingKey::from_slice(&[2; 32]).unwrap());
        let operator = Signer::from_seed(&[3; 32]).public();
        let issued = key.issue(operator, Wall(99), &mut generator);
        assert_eq!(key.read(&issued.bearer), Some(issued.claim));
        assert_ne!(other.read(&issued.bearer).unwrap().hash, issued.claim.hash);
        assert_ne!(key.issue(operator, Wall(99), &mut generator).claim.hash, issued.claim.hash);
        assert_eq!(key.read("raps1."), None);
        assert_eq!(key.read(&issued.bearer[1..]), None);
    }

    #[test]
    fn whoever_changes_the_operator_or_the_end_changes_the_hash() {
        let mut generator = rand::rngs::StdRng::seed_from_u64(1);
        let key = SessionKey::of(&SealingKey::from_slice(&[1; 32]).unwrap());
        let issued = key.issue(Signer::from_seed(&[3; 32]).public(), Wall(99), &mut generator);
        let body = URL_SAFE_NO_PAD.decode(&issued.bearer[PREFIX.len()..]).unwrap();
        for byte in 0..body.len() {
            let mut altered = body.clone();
            altered[byte] ^= 1;
            let claim = key.read(&format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(altered)));
            assert_ne!(claim.map(|claim| claim.hash), Some(issued.claim.hash));
        }
    }
}
