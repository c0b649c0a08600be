//! The key of a call that changes something: the control plane does what is sent twice with one key once.

use std::fmt;
use std::str::FromStr;

use tonic::Request;
use tonic::metadata::MetadataValue;

/// Name of the request header.
const HEADER: &str = "rap-request-key";

/// 16 bytes, written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestKey(pub [u8; 16]);

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request key is 32 hexadecimal digits")]
pub struct MalformedRequestKey;

impl RequestKey {
    /// Attaches the key to a call.
    pub fn attach<T>(self, request: &mut Request<T>) {
        if let Ok(value) = MetadataValue::try_from(self.to_string()) {
            request.metadata_mut().insert(HEADER, value);
        }
    }

    /// The key of a call, if it has one.
    ///
    /// # Errors
    /// If the header is there and holds none.
    pub fn of<T>(request: &Request<T>) -> Result<Option<Self>, MalformedRequestKey> {
        let Some(value) = request.metadata().get(HEADER) else { return Ok(None) };
        value.to_str().map_err(|_| MalformedRequestKey)?.parse().map(Some)
    }
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for RequestKey {
    type Err = MalformedRequestKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(MalformedRequestKey);
        }
        u128::from_str_radix(text, 16)
            .map(|number| Self(number.to_be_bytes()))
            .map_err(|_| MalformedRequestKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_with_a_call_and_comes_back() {
        let key = RequestKey(*b"\x00\x01\xfe\xffabcdefghijkl");
        assert_eq!(key.to_string().parse(), Ok(key));
        let mut request = Request::new(());
        assert_eq!(RequestKey::of(&request), Ok(None));
        key.attach(&mut request);
        assert_eq!(RequestKey::of(&request), Ok(Some(key)));
        for text in [
            "",
            "00",
            "+0112233445566778899aabbccddeeff",
            "0011223344556677 899aabbccddeeff",
            "ä112233445566778899aabbccddeeff",
        ] {
            assert_eq!(text.parse::<RequestKey>(), Err(MalformedRequestKey), "{text}");
            request.metadata_mut().insert(HEADER, MetadataValue::from_static("xyz"));
            assert_eq!(RequestKey::of(&request), Err(MalformedRequestKey));
        }
    }
}
