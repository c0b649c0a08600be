//! Keys of which the newest seals and every one opens: what both kinds of key are while they are replaced.
//!
//! Owns which keys may have sealed something, and the stages of a rotation. Refuses to own the secrets
//! (`keys/secrets`) and the order of a rotation (`acts/rotate_data_key`, `commands/keys`).

use rap_authority::{DataKeys, SealingKey, sealed_version};

/// Version of a key encryption key in what it sealed. It does not rise: a rotation leaves nothing under the key
/// before.
const KEK_VERSION: u32 = 1;

/// The keys of one rotation.
#[derive(Debug, Clone, Copy)]
pub enum KeyRing<'a> {
    /// Data keys of a cluster. What one of them sealed names its version.
    Data(&'a DataKeys),
    /// Key encryption keys, the newest first. What they sealed does not name the key.
    KeyEncryption(&'a [SealingKey]),
}

/// How far a rotation goes; every stage may be the last before a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The new key is stored.
    Added,
    /// Every secret is under it.
    Secrets,
    /// So is every row. The rows of the installation come in one transaction with its secrets.
    Rows,
    /// The old key encryption key is on disk under its new name.
    Saved,
    /// The new key encryption key is in the old one's place.
    Placed,
    /// Nothing is left to do: an old data key is gone, an old key encryption key waits for `keys retire-kek`.
    Retired,
}

impl<'a> KeyRing<'a> {
    /// The key that seals, with its version in what it seals.
    pub(super) fn newest(self) -> (u32, &'a SealingKey) {
        match self {
            Self::Data(keys) => keys.newest(),
            Self::KeyEncryption(keys) => (KEK_VERSION, &keys[0]),
        }
    }

    /// The keys that may have sealed this, each with its version in it.
    pub(super) fn sealers(self, sealed: &[u8]) -> Vec<(u32, &'a SealingKey)> {
        match self {
            Self::Data(keys) => sealed_version(sealed)
                .and_then(|version| Some((version, keys.version(version)?)))
                .into_iter()
                .collect(),
            Self::KeyEncryption(keys) => keys.iter().map(|key| (KEK_VERSION, key)).collect(),
        }
    }
}

impl<'a> From<&'a DataKeys> for KeyRing<'a> {
    fn from(keys: &'a DataKeys) -> Self {
        Self::Data(keys)
    }
}

impl<'a> From<&'a SealingKey> for KeyRing<'a> {
    fn from(key: &'a SealingKey) -> Self {
        Self::KeyEncryption(std::slice::from_ref(key))
    }
}
