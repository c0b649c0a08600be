//! Authentication of backups: only a holder of the installation's key encryption key can make one.
//!
//! Owns the key and its MAC. Refuses to own what a backup contains.

use hmac::{Hmac, KeyInit as _, Mac as _};
use rap_contract::Reject;
use rap_types::Reason;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::SealingKey;

/// Key of backups, derived from the key encryption key.
pub struct BackupKey(Zeroizing<[u8; 32]>);

impl BackupKey {
    /// The backup key of a key encryption key.
    pub fn of(kek: &SealingKey) -> Self {
        Self(kek.derive("rap.backup.v1"))
    }

    /// The MAC of a backup's manifest, whose digests cover everything else in it.
    pub fn mac(&self, manifest: &[u8]) -> [u8; 32] {
        self.over(manifest).finalize().into_bytes().into()
    }

    /// Checks a manifest before anything in it is read.
    ///
    /// # Errors
    /// `backup.altered`, also when it was made under another key.
    pub fn check(&self, manifest: &[u8], mac: &[u8]) -> Result<(), Reject> {
        self.over(manifest).verify_slice(mac).map_err(|_| {
            Reject::new(Reason::BackupAltered, "the manifest does not hold under this secret key")
        })
    }

    fn over(&self, manifest: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes keys of any length");
        mac.update(b"rap.backup.v1\0");
        mac.update(manifest);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_holds_under_its_own_key_and_unaltered_only() {
        let key = |byte| BackupKey::of(&SealingKey::from_slice(&[byte; 32]).unwrap());
        let mac = key(1).mac(b"manifest");
        assert!(key(1).check(b"manifest", &mac).is_ok());
        for refused in [
            key(2).check(b"manifest", &mac),
            key(1).check(b"manifesto", &mac),
            key(1).check(b"manifest", &mac[..31]),
            key(1).check(b"manifest", &[]),
        ] {
            assert_eq!(refused.unwrap_err().reason, Reason::BackupAltered);
        }
    }
}
