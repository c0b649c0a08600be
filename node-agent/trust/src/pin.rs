//! The operator's own word on the cluster authority (`RAP_CLUSTER_AUTHORITY_PUBLIC_KEY`, `_FINGERPRINT`).
//!
//! Owns the comparison. Refuses to own where the values come from.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rap_contract::{AuthorityChain, PublicKey, Reject};
use rap_types::{KeyId, Reason};

/// A pin that a token's authority must match. Empty accepts the key that the token names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorityPin {
    key: Option<PublicKey>,
    fingerprint: Option<KeyId>,
}

impl AuthorityPin {
    /// Reads the pin: a public key in hex or base64, a fingerprint `SHA256:<hex>`.
    ///
    /// # Errors
    /// `key.invalid`; `pin.mismatch` if the two contradict each other.
    pub fn read(public_key: Option<&str>, fingerprint: Option<&str>) -> Result<Self, Reject> {
        let key = public_key.map(read_key).transpose()?;
        let fingerprint = fingerprint
            .map(|text| text.trim().parse::<KeyId>())
            .transpose()
            .map_err(|_| Reject::new(Reason::KeyInvalid, "a fingerprint is SHA256:<64 hex digits>"))?;
        let pin = Self { key, fingerprint };
        if let Some(key) = key {
            pin.check(&key)?;
        }
        Ok(pin)
    }

    /// True if nothing is pinned.
    pub const fn is_empty(&self) -> bool {
        self.key.is_none() && self.fingerprint.is_none()
    }

    /// Compares a token's authority with the pin.
    ///
    /// # Errors
    /// `pin.mismatch`.
    pub fn check(&self, authority: &PublicKey) -> Result<(), Reject> {
        let other_key = self.key.is_some_and(|key| key != *authority);
        let other_fingerprint = self.fingerprint.is_some_and(|fingerprint| fingerprint != authority.id());
        if other_key || other_fingerprint {
            return Err(Reject::new(Reason::PinMismatch, "the token names another cluster authority"));
        }
        Ok(())
    }

    /// Compares a membership's chain with the pin, after joining: the pin may name any key that spoke
    /// for the cluster, the present one or one before a rotation.
    ///
    /// # Errors
    /// `pin.mismatch`.
    pub fn check_chain(&self, chain: &AuthorityChain) -> Result<(), Reject> {
        if self.is_empty() || chain.keys_ever().any(|key| self.check(&key).is_ok()) {
            return Ok(());
        }
        Err(Reject::new(Reason::PinMismatch, "no authority of this membership is the pinned one"))
    }
}

fn read_key(text: &str) -> Result<PublicKey, Reject> {
    let text = text.trim();
    let bytes = if text.len() == 64 {
        hex::decode(text).ok()
    } else {
        URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD.decode(text)).ok()
    };
    PublicKey::from_slice(&bytes.ok_or(Reject::new(Reason::KeyInvalid, "a public key is hex or base64"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_contract::Signer;

    fn key(seed: u8) -> PublicKey {
        Signer::from_seed(&[seed; 32]).public()
    }

    #[test]
    fn every_text_form_of_the_key_is_the_same_pin() {
        let own = key(1);
        for text in [own.to_string(), STANDARD.encode(own.as_bytes()), URL_SAFE_NO_PAD.encode(own.as_bytes())]
        {
            let pin = AuthorityPin::read(Some(&text), None).unwrap();
            assert_eq!(pin.check(&own), Ok(()));
            assert_eq!(pin.check(&key(2)).unwrap_err().reason, Reason::PinMismatch);
        }
    }

    #[test]
    fn fingerprint_alone_pins_and_an_empty_pin_accepts() {
        let own = key(1);
        let pin = AuthorityPin::read(None, Some(&own.id().to_string())).unwrap();
        assert_eq!(pin.check(&own), Ok(()));
        assert_eq!(pin.check(&key(2)).unwrap_err().reason, Reason::PinMismatch);
        let empty = AuthorityPin::read(None, None).unwrap();
        assert!(empty.is_empty());
        assert_eq!(empty.check(&key(2)), Ok(()));
    }

    #[test]
    fn contradicting_and_unreadable_pins_are_refused() {
        let reason = |key: Option<&str>, fingerprint: Option<&str>| {
            AuthorityPin::read(key, fingerprint).unwrap_err().reason
        };
        let (own, other) = (key(1).to_string(), key(2).id().to_string());
        assert_eq!(reason(Some(&own), Some(&other)), Reason::PinMismatch);
        assert_eq!(reason(Some("zz"), None), Reason::KeyInvalid);
        assert_eq!(reason(Some(&"0".repeat(64)), None), Reason::KeyInvalid);
        assert_eq!(reason(None, Some("MD5:00")), Reason::KeyInvalid);
    }
}
