//! Records beside the identity: what was asked when joining, the present leaf, and the kept checkpoint.
//!
//! Owns their fields, and how a record of a membership is opened and stored. Refuses to own keys other than that
//! of the leaf.

use rap_runtime::Fault;
use rap_runtime::tls::NodeCertificate;
use rap_state::durable::twin;
use rap_state::{Closed, Durable, MembershipDir, Record, SignedBytes, StateError, base64_text};
use rap_trust::{HeldCheckpoint, KeptAudit};
use rap_types::{ClusterId, InstallationId, JoinRequestId, NodeId, Reason, Wall};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A record that has one place in the directory of its membership. Calls block.
pub trait Kept: Record + Clone {
    /// Name of the file.
    const FILE: &'static str;

    /// Reads the record; `None` if it was never stored.
    ///
    /// # Errors
    /// An error of local state.
    fn read(dir: &MembershipDir) -> Result<Option<Self>, StateError> {
        Ok(Durable::<Self>::open(&dir.join(Self::FILE))?.0.value().cloned())
    }

    /// Writes the record; it is on disk when this returns.
    ///
    /// # Errors
    /// An error of local state, for instance if both copies that are there are damaged.
    fn store(self, dir: &MembershipDir) -> Result<(), Fault> {
        let (mut record, _) = Durable::open(&dir.join(Self::FILE))?;
        Ok(record.store(self)?)
    }

    /// As [`Self::store`], for a record that replaces all that a damaged one held.
    ///
    /// # Errors
    /// An error of local state other than damage.
    fn replace(self, dir: &MembershipDir) -> Result<(), Fault> {
        let opened = Durable::<Self>::open(&dir.join(Self::FILE)).map(drop);
        opened.or_else(|error| Self::set_aside(dir, error))?;
        self.store(dir)
    }

    /// Moves a damaged record aside.
    ///
    /// # Errors
    /// The given error if it is not damage.
    fn set_aside(dir: &MembershipDir, error: StateError) -> Result<(), StateError> {
        if error.reason() != Reason::StateCorrupt {
            return Err(error);
        }
        tracing::warn!(%error, "a damaged record was moved aside; another takes its place");
        let path = dir.join(Self::FILE);
        // Both copies are useless; what cannot be moved shows as an error at the next open.
        let _ = std::fs::rename(&path, path.with_extension("damaged"));
        let _ = std::fs::remove_file(twin(&path));
        Ok(())
    }
}

/// What a join asked, for resuming it and for verifying its contract again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrollment {
    /// Cluster authority key that the token pinned, 32 bytes.
    #[serde(with = "base64_text")]
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
pub struct Nonce(#[serde(with = "base64_text")] pub Vec<u8>);

impl Record for Enrollment {
    const SCHEMA: &'static str = "rap.enrollment.v1";
}

impl Kept for Enrollment {
    const FILE: &'static str = "enrollment.json";
}

/// Whose a leaf must be.
pub type Owner = (InstallationId, ClusterId, NodeId);

/// The leaf certificate and its TLS key. Prints neither.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredCertificate {
    /// DER leaf.
    #[serde(with = "base64_text")]
    pub certificate: Vec<u8>,
    /// PKCS#8 DER key.
    #[serde(with = "base64_text")]
    pub private_key: Zeroizing<Vec<u8>>,
    /// First instant of validity.
    pub not_before: Wall,
    /// Last instant of validity.
    pub not_after: Wall,
    /// DER certificate of the CA that signed it; empty in a file of before CAs were rotated.
    #[serde(default, with = "base64_text")]
    pub authority: Vec<u8>,
}

impl StoredCertificate {
    /// The leaf of a membership, if it has one, and why a stored one is not used. A damaged one is gone: another is
    /// issued. So is one that is not the `owner`'s, and one that others could read. Blocks.
    ///
    /// # Errors
    /// An error of local state other than damage.
    pub fn open(
        dir: &MembershipDir,
        owner: Owner,
        closed: &[Closed],
    ) -> Result<(Option<Self>, Option<Fault>), StateError> {
        let leaf = Self::read(dir).or_else(|error| Self::set_aside(dir, error).map(|()| None))?;
        let Some(fault) = leaf.as_ref().and_then(|leaf| leaf.unusable(owner, closed)) else {
            return Ok((leaf, None));
        };
        let (path, why) = (dir.join(Self::FILE), fault.message.clone());
        Self::set_aside(dir, StateError::Corrupt { path, why })?;
        Ok((None, Some(fault)))
    }

    fn unusable(&self, owner: Owner, closed: &[Closed]) -> Option<Fault> {
        let name = |closed: &Closed| closed.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let open = closed.iter().filter_map(name).find(|name| name.starts_with(Self::FILE));
        if let Some(open) = open {
            let text = format!("{open}: others could read the key of the certificate");
            return Some(Fault::new(Reason::SecretExposed, text));
        }
        let foreign = |text: String| Some(Fault::new(Reason::StateForeign, text));
        match NodeCertificate::from_der(&self.certificate) {
            Ok(NodeCertificate { identity: found, .. }) => {
                let is_own = (found.installation, found.cluster, found.node) == owner;
                if is_own { None } else { foreign(format!("{} is of {found}, not of this node", Self::FILE)) }
            }
            Err(_) => foreign(format!("{} holds no certificate of a node", Self::FILE)),
        }
    }
}

rap_types::debug_as!(StoredCertificate, |certificate| "StoredCertificate(until {})", certificate.not_after.0);

impl Record for StoredCertificate {
    const SCHEMA: &'static str = "rap.leaf.v1";
}

impl Kept for StoredCertificate {
    const FILE: &'static str = "certificate.json";
}

impl From<StoredCertificate> for rap_node::LinkCertificate {
    fn from(leaf: StoredCertificate) -> Self {
        Self {
            certificate: leaf.certificate,
            private_key: leaf.private_key,
            not_after: leaf.not_after,
            authority: leaf.authority,
        }
    }
}

/// The largest checkpoint of the audit log that this node verified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptCheckpoint {
    /// Encoded log key records.
    pub records: Vec<SignedBytes>,
    /// The signed note.
    pub note: SignedBytes,
}

impl Record for KeptCheckpoint {
    const SCHEMA: &'static str = "rap.checkpoint.v1";
}

impl Kept for KeptCheckpoint {
    const FILE: &'static str = "checkpoint.json";
}

impl From<HeldCheckpoint> for KeptCheckpoint {
    fn from(held: HeldCheckpoint) -> Self {
        Self { records: held.records.into_iter().map(SignedBytes).collect(), note: SignedBytes(held.note) }
    }
}

impl KeptCheckpoint {
    /// What a membership's disk has of the audit log. A damaged record is gone: the node is a witness
    /// from its next checkpoint on. Blocks.
    pub fn open(dir: &MembershipDir) -> KeptAudit {
        let kept = Self::read(dir).unwrap_or_else(|error| {
            tracing::warn!(%error, "the kept audit checkpoint is not readable");
            None
        });
        let checkpoint = kept.map(|kept| HeldCheckpoint {
            records: kept.records.into_iter().map(|SignedBytes(record)| record).collect(),
            note: kept.note.0,
        });
        KeptAudit { checkpoint, contradicted: dir.join(AUDIT_EVIDENCE).exists() }
    }
}

/// Evidence of two histories of the audit log.
pub const AUDIT_EVIDENCE: &str = "evidence-audit.json";
