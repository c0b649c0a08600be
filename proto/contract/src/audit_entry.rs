//! One entry of the audit log as the bytes that are hashed, stored in exports and read by auditors.
//!
//! Owns the one encoding. Refuses to own where entries are kept and in which order.

use rap_types::{ClusterId, Digest, OrganizationId, Reason, RequestId};

use crate::Reject;

/// What was done, by whom, on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Number of the row; neither gapless nor in commit order.
    pub entry: u64,
    /// Unix microseconds by the database's clock.
    pub recorded_at_us: i64,
    /// Cluster it concerns.
    pub cluster: Option<ClusterId>,
    /// Organization it concerns, which then sees it.
    pub organization: Option<OrganizationId>,
    /// Who: `operator:<name>`, `token:<id>`, `node:<id>`, `system`.
    pub actor: String,
    /// From which device: key and address of the caller; may be empty.
    pub device: String,
    /// What, as a noun and a verb: `node.approve`.
    pub action: String,
    /// On what: `node/<id>`.
    pub object: String,
    /// Digest of the object before; `None` if it was made.
    pub before_digest: Option<Digest>,
    /// Digest of the object after; `None` if it is gone.
    pub after_digest: Option<Digest>,
    /// Reason code or the words an operator gave; may be empty.
    pub reason: String,
    /// Call it belongs to.
    pub request: RequestId,
}

impl AuditEntry {
    /// The canonical bytes: tag, two fixed numbers, ten fields each behind its u32 length.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = TAG.to_vec();
        bytes.extend_from_slice(&self.entry.to_be_bytes());
        bytes.extend_from_slice(&self.recorded_at_us.to_be_bytes());
        let fields: [&[u8]; 10] = [
            self.cluster.as_ref().map_or(&[], |id| id.as_bytes().as_slice()),
            self.organization.as_ref().map_or(&[], |id| id.as_bytes().as_slice()),
            self.actor.as_bytes(),
            self.device.as_bytes(),
            self.action.as_bytes(),
            self.object.as_bytes(),
            self.before_digest.as_ref().map_or(&[], |digest| digest.as_bytes().as_slice()),
            self.after_digest.as_ref().map_or(&[], |digest| digest.as_bytes().as_slice()),
            self.reason.as_bytes(),
            self.request.as_bytes(),
        ];
        for field in fields {
            bytes.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(field);
        }
        bytes
    }

    /// Reads the canonical bytes; every other encoding is refused.
    ///
    /// # Errors
    /// `audit.malformed`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        let malformed = |what| Reject::new(Reason::AuditMalformed, what);
        if bytes.len() > ENTRY_CAP {
            return Err(malformed("an entry is too long"));
        }
        let rest = bytes.strip_prefix(TAG).ok_or(malformed("not an entry"))?;
        let mut fields = Fields(rest);
        let entry = u64::from_be_bytes(fields.fixed().ok_or(malformed("entry"))?);
        let recorded_at_us = i64::from_be_bytes(fields.fixed().ok_or(malformed("recorded_at"))?);
        let decoded = Self {
            entry,
            recorded_at_us,
            cluster: option(fields.next("cluster")?, ClusterId::from_slice).ok_or(malformed("cluster"))?,
            organization: option(fields.next("organization")?, OrganizationId::from_slice)
                .ok_or(malformed("organization"))?,
            actor: text(fields.next("actor")?).ok_or(malformed("actor"))?,
            device: text(fields.next("device")?).ok_or(malformed("device"))?,
            action: text(fields.next("action")?).ok_or(malformed("action"))?,
            object: text(fields.next("object")?).ok_or(malformed("object"))?,
            before_digest: option(fields.next("before_digest")?, Digest::from_slice)
                .ok_or(malformed("before_digest"))?,
            after_digest: option(fields.next("after_digest")?, Digest::from_slice)
                .ok_or(malformed("after_digest"))?,
            reason: text(fields.next("reason")?).ok_or(malformed("reason"))?,
            request: RequestId::from_slice(fields.next("request")?).map_err(|_| malformed("request"))?,
        };
        if fields.0.is_empty() { Ok(decoded) } else { Err(malformed("bytes after the last field")) }
    }
}

/// Bytes that are not read yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn next(&mut self, what: &'static str) -> Result<&'a [u8], Reject> {
        let refused = Reject::new(Reason::AuditMalformed, what);
        let length = u32::from_be_bytes(self.fixed().ok_or(refused)?) as usize;
        let (field, rest) = self.0.split_at_checked(length).ok_or(refused)?;
        self.0 = rest;
        Ok(field)
    }
}

fn option<T, E>(field: &[u8], read: impl Fn(&[u8]) -> Result<T, E>) -> Option<Option<T>> {
    if field.is_empty() { Some(None) } else { read(field).ok().map(Some) }
}

fn text(field: &[u8]) -> Option<String> {
    std::str::from_utf8(field).ok().map(str::to_owned)
}

const TAG: &[u8] = b"rap.audit.v1\0";

/// Cap on the encoding of one entry, bytes. Every text column holds at most 1024 characters.
pub const ENTRY_CAP: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> AuditEntry {
        AuditEntry {
            entry: 7,
            recorded_at_us: 1_800_000_000_000_001,
            cluster: Some(ClusterId::from_bytes([1; 16])),
            organization: None,
            actor: "operator:ann".into(),
            device: String::new(),
            action: "node.approve".into(),
            object: "node/1".into(),
            before_digest: None,
            after_digest: Some(Digest::from_bytes([2; 32])),
            reason: "new host \u{e9}".into(),
            request: RequestId::from_bytes([3; 16]),
        }
    }

    #[test]
    fn an_entry_reads_back_and_no_prefix_or_extension_of_it_does() {
        let bytes = entry().encode();
        assert_eq!(AuditEntry::decode(&bytes), Ok(entry()));
        for length in 0..bytes.len() {
            assert!(AuditEntry::decode(&bytes[..length]).is_err(), "{length}");
        }
        assert!(AuditEntry::decode(&[bytes, vec![0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(at in 0usize..200, byte: u8) {
            let mut bytes = entry().encode();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(read) = AuditEntry::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }

        #[test]
        fn text_cannot_move_from_one_field_to_the_next(actor in "[a-z]{0,5}", device in "[a-z]{0,5}") {
            let one = AuditEntry { actor: actor.clone(), device: device.clone(), ..entry() };
            let other = AuditEntry { actor: format!("{actor}{device}"), device: String::new(), ..entry() };
            prop_assert_eq!(one.encode() == other.encode(), device.is_empty());
        }
    }
}
