//! Two small records beside the identity: what was asked when joining, and the present leaf.
//!
//! Owns their fields. Refuses to own keys other than the leaf's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rap_runtime::Fault;
use rap_state::{Durable, MembershipDir, Record};
use rap_trust::{HeldCheckpoint, KeptAudit};
use rap_types::{JoinRequestId, Reason, Wall};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize as _, Zeroizing};

/// What a join asked, for resuming it and for verifying its contract again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrollment {
    /// Cluster authority key that the token pinned, 32 bytes.
    #[serde(with = "base64_bytes")]
    pub authority_key: Vec<u8>,
    /// Nonces under which a join was signed.
    pub nonces: Vec<Nonce>,
    /// The request.
    pub request: Option<JoinRequestId>,
    /// When the contract was accepted.
    pub accepted_at: Option<Wall>,
}

/// A nonce; base64 in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(#[serde(with = "base64_bytes")] pub Vec<u8>);

impl std::ops::Deref for Nonce {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Record for Enrollment {
    const SCHEMA: &'static str = "rap.enrollment.v1";
}

impl Enrollment {
    /// Reads the record; an absent one is empty. Blocks.
    ///
    /// # Errors
    /// Those of state.
    pub fn open(dir: &MembershipDir) -> Result<Self, Fault> {
        let (record, _) = Durable::<Self>::open(&dir.join(ENROLLMENT))?;
        Ok(record.value().cloned().unwrap_or_default())
    }

    /// Writes the record; it is on disk when this returns. Blocks.
    ///
    /// # Errors
    /// Those of state.
    pub fn store(self, dir: &MembershipDir) -> Result<(), Fault> {
        let (mut record, _) = Durable::<Self>::open(&dir.join(ENROLLMENT))?;
        record.store(self).map_err(Fault::from)
    }
}

/// The leaf certificate and its TLS key. Prints neither.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredCertificate {
    /// DER leaf.
    #[serde(with = "base64_bytes")]
    pub certificate: Vec<u8>,
    /// PKCS#8 DER key.
    #[serde(with = "base64_secret")]
    pub private_key: Zeroizing<Vec<u8>>,
    /// First instant of validity.
    pub not_before: Wall,
    /// Last instant of validity.
    pub not_after: Wall,
}

impl std::fmt::Debug for StoredCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredCertificate(until {})", self.not_after.0)
    }
}

impl Record for StoredCertificate {
    const SCHEMA: &'static str = "rap.leaf.v1";
}

impl From<StoredCertificate> for rap_node::LinkCertificate {
    fn from(leaf: StoredCertificate) -> Self {
        Self { certificate: leaf.certificate, private_key: leaf.private_key, not_after: leaf.not_after }
    }
}

/// The leaf on disk.
#[derive(Debug)]
pub struct CertificateStore(Durable<StoredCertificate>);

impl CertificateStore {
    /// Reads the leaf of a membership, if it has one. A damaged one is gone: another is issued. Blocks.
    ///
    /// # Errors
    /// Those of state other than damage.
    pub fn open(dir: &MembershipDir) -> Result<Self, Fault> {
        let path = dir.join(LEAF);
        match Durable::<StoredCertificate>::open(&path) {
            Ok((record, _)) => Ok(Self(record)),
            Err(error) if error.reason() == Reason::StateCorrupt => {
                tracing::warn!(%error, "the stored certificate is damaged; a new one will be issued");
                let aside = dir.join("certificate.damaged");
                // Both copies are useless; what cannot be moved shows as an error at the next write.
                let _ = std::fs::rename(&path, &aside);
                let _ = std::fs::remove_file(dir.join("certificate.json.twin"));
                Durable::<StoredCertificate>::open(&path).map(|(record, _)| Self(record)).map_err(Fault::from)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The leaf.
    pub fn leaf(&self) -> Option<&StoredCertificate> {
        self.0.value()
    }

    /// Replaces the leaf; it is on disk when this returns. Blocks.
    ///
    /// # Errors
    /// Those of state.
    pub fn store(&mut self, leaf: StoredCertificate) -> Result<(), Fault> {
        self.0.store(leaf).map_err(Fault::from)
    }
}

/// Bytes; base64 in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Base64(#[serde(with = "base64_bytes")] pub Vec<u8>);

/// The largest checkpoint of the audit log that this node verified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptCheckpoint {
    /// Encoded log key records.
    pub records: Vec<Base64>,
    /// The signed note.
    pub note: Base64,
}

impl Record for KeptCheckpoint {
    const SCHEMA: &'static str = "rap.checkpoint.v1";
}

impl From<HeldCheckpoint> for KeptCheckpoint {
    fn from(held: HeldCheckpoint) -> Self {
        Self { records: held.records.into_iter().map(Base64).collect(), note: Base64(held.note) }
    }
}

impl KeptCheckpoint {
    /// What a membership's disk has of the audit log. A damaged record is gone: the node is a witness
    /// from its next checkpoint on. Blocks.
    pub fn open(dir: &MembershipDir) -> KeptAudit {
        let checkpoint = match Durable::<Self>::open(&dir.join(CHECKPOINT)) {
            Ok((record, _)) => record.value().map(|kept| HeldCheckpoint {
                records: kept.records.iter().map(|record| record.0.clone()).collect(),
                note: kept.note.0.clone(),
            }),
            Err(error) => {
                tracing::warn!(%error, "the kept audit checkpoint is not readable");
                None
            }
        };
        KeptAudit { checkpoint, contradicted: dir.join(AUDIT_EVIDENCE).exists() }
    }

    /// Writes the record; it is on disk when this returns. Blocks.
    ///
    /// # Errors
    /// Those of state.
    pub fn store(self, dir: &MembershipDir) -> Result<(), Fault> {
        let path = dir.join(CHECKPOINT);
        let (mut record, _) = match Durable::<Self>::open(&path) {
            Err(error) if error.reason() == Reason::StateCorrupt => {
                // Both copies are useless; what cannot be moved shows as an error at the next open.
                let _ = std::fs::rename(&path, dir.join("checkpoint.damaged"));
                let _ = std::fs::remove_file(dir.join("checkpoint.json.twin"));
                Durable::<Self>::open(&path)
            }
            opened => opened,
        }?;
        record.store(self).map_err(Fault::from)
    }
}

pub(super) mod base64_bytes {
    use super::*;

    pub(in crate::membership) fn serialize<S: Serializer>(
        bytes: &[u8],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(in crate::membership) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

pub(super) mod base64_secret {
    use super::*;

    pub(in crate::membership) fn serialize<S: Serializer>(
        bytes: &Zeroizing<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(STANDARD.encode(bytes.as_slice()));
        serializer.serialize_str(&text)
    }

    pub(in crate::membership) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Zeroizing<Vec<u8>>, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(&text).map(Zeroizing::new);
        text.zeroize();
        // The cause could repeat a piece of the secret.
        bytes.map_err(|_| serde::de::Error::custom("not base64"))
    }
}

const ENROLLMENT: &str = "enrollment.json";
const CHECKPOINT: &str = "checkpoint.json";
/// Evidence of two histories of the audit log.
pub const AUDIT_EVIDENCE: &str = "evidence-audit.json";
const LEAF: &str = "certificate.json";
