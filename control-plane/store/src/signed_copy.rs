//! Signed bytes that an act stored, as a replica keeps them outside of the database.
//!
//! Owns its form outside of the database. Refuses to own how it is put back where it is missing
//! ([`crate::signed_copy_put`]).

use rap_types::{ClusterId, Digest};
use serde::{Deserialize, Serialize};

use crate::row_name::RowName;

/// A signed document of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SignedCopy {
    /// A role-grant set.
    RoleGrantSet {
        /// Sequence of the set.
        sequence: u64,
        /// SHA-256 of the signed bytes of the set.
        digest: Digest,
        /// The signed bytes.
        #[serde(with = "hex")]
        envelope: Vec<u8>,
    },
    /// A grant or revocation of a role.
    RoleGrant {
        /// SHA-256 of the signed bytes of the grant.
        digest: Digest,
        /// Key it concerns.
        #[serde(with = "hex")]
        subject_key: Vec<u8>,
        /// Role it concerns.
        platform_role: String,
        /// The signed bytes.
        #[serde(with = "hex")]
        envelope: Vec<u8>,
    },
    /// A record of a cluster's revocations.
    Revocation {
        /// Cluster.
        cluster: ClusterId,
        /// Sequence of the record in the chain of its cluster, from 1.
        sequence: u64,
        /// The signed bytes.
        #[serde(with = "hex")]
        record: Vec<u8>,
    },
}

impl SignedCopy {
    /// The row that it is stored in.
    pub fn row(&self) -> RowName {
        let (table, key) = match self {
            Self::RoleGrantSet { sequence, .. } => ("role_grant_sets", sequence.to_string()),
            Self::RoleGrant { digest, .. } => ("platform_role_grants", digest.to_string()),
            Self::Revocation { cluster, sequence, .. } => {
                ("node_revocations", format!("{cluster}/{sequence}"))
            }
        };
        RowName { table, key }
    }

    /// The signed bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::RoleGrantSet { envelope, .. } | Self::RoleGrant { envelope, .. } => envelope,
            Self::Revocation { record, .. } => record,
        }
    }
}

/// Bytes as hexadecimal digits.
mod hex {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or_default());
            }
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.ok_or_else(|| D::Error::custom("not hexadecimal digits"))
    }
}
