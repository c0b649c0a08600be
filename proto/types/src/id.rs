//! Typed identifiers. UUIDv7: 16 bytes on the wire, lower-case hyphenated text for people.

use std::fmt;
use std::str::FromStr;

/// Why bytes or text are not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdParseError {
    /// Wire form has a length other than 16 bytes.
    #[error("an id has 16 bytes, got {0}")]
    Length(usize),
    /// Text form is not a lower-case hyphenated UUID.
    #[error("not a lower-case hyphenated UUID")]
    Text,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The all-zero id: "no such scope" in a signed header.
            pub const ZERO: Self = Self([0; 16]);

            /// Builds a UUIDv7 from Unix milliseconds and ten random bytes.
            pub fn from_parts(unix_ms: u64, random: [u8; 10]) -> Self {
                Self(*uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid().as_bytes())
            }

            /// Takes exactly 16 bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdParseError> {
                bytes.try_into().map(Self).map_err(|_| IdParseError::Length(bytes.len()))
            }

            /// Takes the 16 bytes as they are.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The wire form.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// The wire form, owned.
            pub fn to_vec(self) -> Vec<u8> {
                self.0.to_vec()
            }

            /// True for [`Self::ZERO`].
            pub fn is_zero(&self) -> bool {
                *self == Self::ZERO
            }

            /// The UUID value, for a database column.
            pub fn uuid(&self) -> uuid::Uuid {
                uuid::Uuid::from_bytes(self.0)
            }
        }

        impl From<uuid::Uuid> for $name {
            fn from(value: uuid::Uuid) -> Self {
                Self(*value.as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", uuid::Uuid::from_bytes(self.0).hyphenated())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;
            fn from_str(text: &str) -> Result<Self, IdParseError> {
                let id = uuid::Uuid::try_parse(text).map_err(|_| IdParseError::Text)?;
                let mut canonical = [0; uuid::fmt::Hyphenated::LENGTH];
                if *id.hyphenated().encode_lower(&mut canonical) != *text {
                    return Err(IdParseError::Text);
                }
                Ok(Self(*id.as_bytes()))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// One control plane deployment.
    InstallationId
);
id!(
    /// Operational trust and routing domain.
    ClusterId
);
id!(
    /// Host-level identity within one cluster.
    NodeId
);
id!(
    /// Tenancy boundary.
    OrganizationId
);
id!(
    /// Join token.
    TokenId
);
id!(
    /// One host's request to join a cluster.
    JoinRequestId
);
id!(
    /// A person or program that operates the platform.
    OperatorId
);
id!(
    /// One API call, for correlating answers, logs and audit rows.
    RequestId
);
id!(
    /// One managed VPN connection.
    VpnConnectionId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_upper_case_is_refused() {
        let id = NodeId::from_parts(1_700_000_000_000, [7; 10]);
        let text = id.to_string();
        assert_eq!(text.parse::<NodeId>(), Ok(id));
        assert_eq!(text.to_uppercase().parse::<NodeId>(), Err(IdParseError::Text));
        assert_eq!(text.replace('-', "").parse::<NodeId>(), Err(IdParseError::Text));
    }

    #[test]
    fn wire_form_has_exactly_16_bytes() {
        assert_eq!(NodeId::from_slice(&[0; 15]), Err(IdParseError::Length(15)));
        assert_eq!(NodeId::from_slice(&[0; 17]), Err(IdParseError::Length(17)));
        assert_eq!(NodeId::from_slice(&[0; 16]), Ok(NodeId::ZERO));
    }

    #[test]
    fn ids_made_later_sort_later() {
        assert!(NodeId::from_parts(1, [255; 10]) < NodeId::from_parts(2, [0; 10]));
    }
}
