//! Key files: an Ed25519 key of a person (Product Root, owner, operator) as one JSON document.
//!
//! Owns the shape. Opening a passphrase-protected key is rapctl's.

use std::collections::BTreeSet;

use rap_types::Reason;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{PublicKey, Reject, Signer};

/// Schema of a private key file.
pub const KEY_FILE_SCHEMA: &str = "rap.key.v1";
/// Schema of a public key file.
const PUBLIC_KEY_FILE_SCHEMA: &str = "rap.public-key.v1";

/// A private key file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// [`KEY_FILE_SCHEMA`].
    pub schema: String,
    /// What the key is for: `product-root`, `owner`, `operator`.
    pub purpose: String,
    /// Hex of the raw public key.
    pub public_key: String,
    /// How the private half is kept.
    pub protection: Protection,
}

/// How a private half is kept in its file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Protection {
    /// In the open, for development installations and keys on protected media.
    None {
        /// Hex of the 32-byte seed.
        seed: String,
    },
    /// XChaCha20-Poly1305 under an Argon2id key; additional data = purpose and public key.
    Passphrase {
        /// Argon2id memory, KiB.
        memory_kib: u32,
        /// Argon2id passes.
        passes: u32,
        /// Hex, 16 bytes.
        salt: String,
        /// Hex, 24 bytes.
        nonce: String,
        /// Hex, seed and tag, 48 bytes.
        ciphertext: String,
    },
}

impl KeyFile {
    /// An unprotected file.
    pub fn open_text(purpose: &str, signer: &Signer) -> Self {
        Self {
            schema: KEY_FILE_SCHEMA.to_owned(),
            purpose: purpose.to_owned(),
            public_key: signer.public().to_string(),
            protection: Protection::None { seed: hex::encode(signer.seed().as_slice()) },
        }
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// `key.invalid`.
    pub fn parse(text: &str) -> Result<Self, Reject> {
        let file: Self =
            serde_json::from_str(text).map_err(|_| Reject::new(Reason::KeyInvalid, "not a key file"))?;
        Reject::when(file.schema != KEY_FILE_SCHEMA, Reason::KeyInvalid, "unknown key file schema")?;
        Ok(file)
    }

    /// The JSON form. Secret unless protected.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(serde_json::to_string_pretty(self).unwrap_or_default() + "\n")
    }

    /// The key of an unprotected file, or `None` if a passphrase protects it.
    ///
    /// # Errors
    /// `key.invalid` if the halves do not belong together.
    pub fn unprotected(&self) -> Result<Option<Signer>, Reject> {
        let Protection::None { seed } = &self.protection else { return Ok(None) };
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(seed, bytes.as_mut_slice())
            .map_err(|_| Reject::new(Reason::KeyInvalid, "seed"))?;
        self.signer(&bytes).map(Some)
    }

    /// The key of `seed`, which must belong to the public half in the file.
    ///
    /// # Errors
    /// `key.invalid`.
    pub fn signer(&self, seed: &[u8; 32]) -> Result<Signer, Reject> {
        Reject::when(seed.iter().all(|byte| *byte == 0), Reason::KeyInvalid, "the private key is zero")?;
        let signer = Signer::from_seed(seed);
        if signer.public().to_string() != self.public_key {
            return Err(Reject::new(Reason::KeyInvalid, "private and public half differ"));
        }
        Ok(signer)
    }
}

rap_types::debug_as!(KeyFile, |file| "KeyFile({} {})", file.purpose, file.public_key);

/// A public key file: one or more keys, and how many of them must sign.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKeyFile {
    /// `rap.public-key.v1`.
    pub schema: String,
    /// What the keys are for.
    pub purpose: String,
    /// Hex of raw public keys.
    pub keys: Vec<String>,
    /// How many distinct keys must sign.
    pub threshold: usize,
}

impl PublicKeyFile {
    /// One key, threshold one.
    pub fn of(purpose: &str, key: PublicKey) -> Self {
        Self {
            schema: PUBLIC_KEY_FILE_SCHEMA.to_owned(),
            purpose: purpose.to_owned(),
            keys: vec![key.to_string()],
            threshold: 1,
        }
    }

    /// Reads the JSON form, or a bare line of hex.
    ///
    /// # Errors
    /// `key.invalid`.
    pub fn parse(text: &str) -> Result<Self, Reject> {
        let invalid = |what| Reject::new(Reason::KeyInvalid, what);
        let text = text.trim();
        if !text.starts_with('{') {
            let key =
                PublicKey::from_slice(&hex::decode(text).map_err(|_| invalid("not a public key file"))?)?;
            return Ok(Self::of("product-root", key));
        }
        let file: Self = serde_json::from_str(text).map_err(|_| invalid("not a public key file"))?;
        if file.schema != PUBLIC_KEY_FILE_SCHEMA {
            return Err(invalid("unknown public key file schema"));
        }
        if file.keys.is_empty() || file.threshold == 0 || file.threshold > file.keys.len() {
            return Err(invalid("threshold"));
        }
        let keys: BTreeSet<PublicKey> = file.public_keys()?.into_iter().collect();
        if keys.len() != file.keys.len() {
            return Err(invalid("a key twice: one signer would count for two"));
        }
        Ok(file)
    }

    /// The JSON form.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The keys, admitted.
    ///
    /// # Errors
    /// `key.invalid`.
    pub fn public_keys(&self) -> Result<Vec<PublicKey>, Reject> {
        let decode = |text: &String| {
            let bytes = hex::decode(text).map_err(|_| Reject::new(Reason::KeyInvalid, "key is not hex"))?;
            PublicKey::from_slice(&bytes)
        };
        self.keys.iter().map(decode).collect()
    }

    /// The keys as signers of documents `T`.
    ///
    /// # Errors
    /// `key.invalid`.
    pub fn key_set<T: crate::Document>(&self) -> Result<crate::KeySet, Reject> {
        let keys = self.public_keys()?.into_iter();
        let set = keys.fold(crate::KeySet::new(), |set, key| set.with::<T>(key, crate::KeyState::Active));
        Ok(set.with_threshold(self.threshold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_reads_back_and_mismatched_halves_are_refused() {
        let signer = Signer::from_seed(&[5; 32]);
        let file = KeyFile::parse(&KeyFile::open_text("owner", &signer).text()).unwrap();
        assert_eq!(file.unprotected().unwrap().unwrap().public(), signer.public());
        assert_eq!(file.signer(&[6; 32]).unwrap_err().reason, Reason::KeyInvalid);
        assert!(!format!("{file:?}").contains(&"05".repeat(32)));
        let zero = KeyFile::open_text("owner", &Signer::from_seed(&[0; 32]));
        assert_eq!(zero.unprotected().unwrap_err().reason, Reason::KeyInvalid);
    }

    #[test]
    fn zero_and_weak_root_keys_are_refused() {
        for text in ["00".repeat(32), format!("01{}", "00".repeat(31))] {
            assert_eq!(PublicKeyFile::parse(&text).unwrap_err().reason, Reason::KeyInvalid);
        }
        let mut file = PublicKeyFile::of("product-root", Signer::from_seed(&[5; 32]).public());
        file.threshold = 2;
        assert!(PublicKeyFile::parse(&file.text()).is_err());
        file.keys.push(file.keys[0].to_uppercase());
        assert_eq!(
            PublicKeyFile::parse(&file.text()).unwrap_err().what,
            "a key twice: one signer would count for two"
        );
        file.keys[1] = Signer::from_seed(&[6; 32]).public().to_string();
        assert_eq!(PublicKeyFile::parse(&file.text()).map(|file| file.threshold), Ok(2));
    }
}
