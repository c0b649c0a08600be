//! Bytes as base64 text in a record; for secrets every intermediate copy is wiped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rap_runtime::Secret;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};
use zeroize::Zeroizing;

pub(crate) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&Zeroizing::new(STANDARD.encode(secret.expose())))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    let text = Zeroizing::new(String::deserialize(deserializer)?);
    decode(&text).map(Secret::new).map_err(D::Error::custom)
}

/// Strict base64; the error does not quote the text.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    STANDARD.decode(text).map_err(|_| "not base64")
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// As this module, for a secret that may be absent.
pub(crate) mod optional {
    use super::{Deserialize, Deserializer, Secret, Serializer, Zeroizing};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => super::serialize(secret, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Secret>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        super::decode(&text).map(|bytes| Some(Secret::new(bytes))).map_err(D::Error::custom)
    }
}
