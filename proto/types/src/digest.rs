//! SHA-256 digests and key ids, and the two forms in which people compare them.

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;

use crate::id::IdParseError;

/// A SHA-256 value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes the concatenation of `parts`.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = sha2::Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// Takes the 32 bytes as they are.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Takes exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdParseError> {
        bytes.try_into().map(Self).map_err(|_| IdParseError::Length(bytes.len()))
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 32 bytes, owned.
    pub fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

crate::debug_as!(Digest, |digest| "Digest({digest})");

impl FromStr for Digest {
    type Err = IdParseError;
    fn from_str(text: &str) -> Result<Self, IdParseError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| IdParseError::Text)?;
        Ok(Self(bytes))
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-256 of a raw public key: how keys are named. Prints as `SHA256:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Digest);

impl KeyId {
    /// The id of a raw public key.
    pub fn of(public_key: &[u8]) -> Self {
        Self(Digest::of(&[public_key]))
    }

    /// Takes exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdParseError> {
        Digest::from_slice(bytes).map(Self)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The 32 bytes, owned.
    pub fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// Six pronounceable words over the first 60 bits, for two people comparing over the telephone.
    pub fn words(&self) -> String {
        let bytes = self.0.as_bytes();
        let value = bytes[..8].iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        (0..6).map(|word| syllables((value >> (54 - word * 10)) as u16 & 0x3ff)).collect::<Vec<_>>().join("-")
    }
}

/// Two consonant-vowel syllables (16 consonants x 4 vowels, 8 consonants x 2 vowels) from ten bits.
fn syllables(value: u16) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aiou";
    let (first, second) = (usize::from(value >> 4), usize::from(value & 0xf));
    [
        CONSONANTS[first >> 2],
        VOWELS[first & 3],
        CONSONANTS[(second >> 1) * 2 + (first & 1)],
        VOWELS[(second & 1) * 2],
    ]
    .iter()
    .map(|byte| *byte as char)
    .collect()
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", self.0)
    }
}

crate::debug_as!(KeyId, |id| "KeyId({id})");

impl FromStr for KeyId {
    type Err = IdParseError;
    fn from_str(text: &str) -> Result<Self, IdParseError> {
        text.strip_prefix("SHA256:").ok_or(IdParseError::Text)?.parse().map(Self)
    }
}

impl serde::Serialize for KeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for KeyId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_id_prints_with_its_algorithm_and_reads_back() {
        let id = KeyId::of(b"key");
        assert_eq!(id.to_string().parse::<KeyId>(), Ok(id));
        assert!(id.to_string().starts_with("SHA256:"));
        assert!("deadbeef".parse::<KeyId>().is_err());
    }

    #[test]
    fn every_ten_bits_have_their_own_word() {
        let words: std::collections::BTreeSet<String> = (0..1024).map(syllables).collect();
        assert_eq!(words.len(), 1024);
    }

    #[test]
    fn digest_of_parts_is_digest_of_their_concatenation() {
        assert_eq!(Digest::of(&[b"a", b"bc"]), Digest::of(&[b"abc"]));
        assert_eq!(
            Digest::of(&[b"abc"]).to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
