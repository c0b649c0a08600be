//! Bytes as base64 text in a record, for `#[serde(with = "base64_text")]`. Every intermediate copy is wiped: the
//! bytes may be a secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rap_runtime::Secret;
use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serializer};
use zeroize::Zeroizing;

/// A type that a record holds as base64 text.
pub trait Bytes: Sized {
    /// The bytes.
    fn bytes(&self) -> &[u8];

    /// Takes the bytes over.
    fn of(bytes: Vec<u8>) -> Self;
}

impl Bytes for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn of(bytes: Vec<u8>) -> Self {
        bytes
    }
}

impl Bytes for Zeroizing<Vec<u8>> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn of(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl Bytes for Secret {
    fn bytes(&self) -> &[u8] {
        self.expose()
    }

    fn of(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

/// Writes the bytes as standard base64 with padding.
///
/// # Errors
/// An error of the serializer.
pub fn serialize<S: Serializer>(value: &impl Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&Zeroizing::new(STANDARD.encode(value.bytes())))
}

/// Reads what [`serialize`] wrote.
///
/// # Errors
/// The text is not base64; the error does not quote it.
pub fn deserialize<'de, D: Deserializer<'de>, T: Bytes>(deserializer: D) -> Result<T, D::Error> {
    let text = Zeroizing::new(String::deserialize(deserializer)?);
    STANDARD.decode(&*text).map(T::of).map_err(|_| D::Error::custom("not base64"))
}

/// As this module, for what may be absent.
pub(crate) mod optional {
    use serde::{Deserialize, Serialize};

    use super::{Bytes, Deserializer, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(bound = "", transparent)]
    struct Present<T: Bytes>(#[serde(with = "super")] T);

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<impl Bytes + Clone>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.clone().map(Present).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Bytes>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(|Present(value)| value))
    }
}
