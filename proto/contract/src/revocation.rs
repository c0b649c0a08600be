//! One link of the chain of revocations: what it says, typed.
//!
//! Owns the fields and their ranges. Refuses to own the chain's rules (revocation_chain).

use rap_types::{ClusterId, Digest, InstallationId, KeyId, NodeId, Reason, Wall};
use rap_wire::v1;
use v1::revocation::Kind;

use crate::{HeaderTerms, Reject, Signer, Verified, sign};

/// Most bytes of the words in a record.
const REASON_CAP: usize = 256;

/// What a record says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RevocationKind {
    /// Thrown out; the key never returns.
    Banned,
    /// Thrown out; may be readmitted.
    Evicted,
    /// Deregistered itself; may be readmitted.
    Left,
    /// Ephemeral and away too long; may be readmitted.
    Absent,
    /// Goes on with the next generation and this other key; the old key never returns.
    KeyRotated(KeyId),
    /// Back after it was gone, with the next generation and this key.
    Readmitted(KeyId),
}

impl RevocationKind {
    /// The word that people and programs see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::Evicted => "evicted",
            Self::Left => "left",
            Self::Absent => "absent",
            Self::KeyRotated(_) => "key_rotated",
            Self::Readmitted(_) => "readmitted",
        }
    }

    /// The key of the next generation, for the kinds after which there is one.
    pub const fn successor(self) -> Option<KeyId> {
        match self {
            Self::KeyRotated(key) | Self::Readmitted(key) => Some(key),
            Self::Banned | Self::Evicted | Self::Left | Self::Absent => None,
        }
    }

    const fn to_wire(self) -> Kind {
        match self {
            Self::Banned => Kind::Banned,
            Self::Evicted => Kind::Evicted,
            Self::Left => Kind::Left,
            Self::Absent => Kind::Absent,
            Self::KeyRotated(_) => Kind::KeyRotated,
            Self::Readmitted(_) => Kind::Readmitted,
        }
    }
}

/// One revocation. Built to sign, read after verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// What it says.
    pub kind: RevocationKind,
    /// Of which node.
    pub node: NodeId,
    /// SHA-256 of the identity key of the revoked generation.
    pub key: KeyId,
    /// This and every lower generation is revoked.
    pub generation: u64,
    /// Words of whoever revoked.
    pub reason: String,
}

/// Where a new record goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChainPosition<'a> {
    pub(crate) installation: InstallationId,
    pub(crate) cluster: ClusterId,
    pub(crate) incarnation: u64,
    pub(crate) sequence: u64,
    pub(crate) previous: Option<Digest>,
    pub(crate) now: Wall,
    pub(crate) critical: &'a [String],
}

impl Revocation {
    pub(crate) fn sign(&self, position: &ChainPosition<'_>, authority: &Signer) -> Vec<u8> {
        let header = HeaderTerms {
            incarnation: position.incarnation,
            sequence: position.sequence,
            critical: position.critical.to_vec(),
            ..HeaderTerms::of_cluster(position.installation, position.cluster, authority.id(), position.now)
        };
        let document = v1::Revocation {
            header: Some(header.to_wire()),
            kind: self.kind.to_wire().into(),
            node_id: self.node.to_vec(),
            node_key_sha256: self.key.to_vec(),
            key_generation: self.generation,
            successor_key_sha256: self.kind.successor().map(|key| key.to_vec()).unwrap_or_default(),
            reason: cut(&self.reason),
            previous_digest: position.previous.map(|digest| digest.to_vec()).unwrap_or_default(),
        };
        sign(&document, &[authority])
    }

    /// Reads a verified record.
    ///
    /// # Errors
    /// `payload.malformed`.
    pub(crate) fn read(record: &Verified<v1::Revocation>) -> Result<Self, Reject> {
        let malformed = |what| Reject::new(Reason::PayloadMalformed, what);
        if record.header().expires_at.is_some() {
            return Err(malformed("a revocation does not expire"));
        }
        let node = NodeId::from_slice(&record.node_id).map_err(|_| malformed("node_id"))?;
        let key = KeyId::from_slice(&record.node_key_sha256).map_err(|_| malformed("node_key_sha256"))?;
        if record.key_generation == 0 || record.key_generation > GENERATION_CAP {
            return Err(malformed("key_generation"));
        }
        if record.reason.len() > REASON_CAP {
            return Err(malformed("reason"));
        }
        let successor =
            || KeyId::from_slice(&record.successor_key_sha256).map_err(|_| malformed("successor_key_sha256"));
        let kind = match Kind::try_from(record.kind).unwrap_or(Kind::Unspecified) {
            Kind::Banned => RevocationKind::Banned,
            Kind::Evicted => RevocationKind::Evicted,
            Kind::Left => RevocationKind::Left,
            Kind::Absent => RevocationKind::Absent,
            Kind::KeyRotated => RevocationKind::KeyRotated(successor()?),
            Kind::Readmitted => RevocationKind::Readmitted(successor()?),
            Kind::Unspecified => return Err(malformed("kind")),
        };
        if kind.successor().is_none() && !record.successor_key_sha256.is_empty() {
            return Err(malformed("successor_key_sha256"));
        }
        Ok(Self { kind, node, key, generation: record.key_generation, reason: record.reason.clone() })
    }
}

/// The longest beginning that fits, without control characters.
fn cut(reason: &str) -> String {
    let mut text = String::new();
    for c in reason.chars().filter(|c| !c.is_control()) {
        if text.len() + c.len_utf8() > REASON_CAP {
            break;
        }
        text.push(c);
    }
    text
}

/// Leaves room for the generation after it.
const GENERATION_CAP: u64 = u64::MAX / 2;
