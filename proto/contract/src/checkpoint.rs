//! Checkpoints of the audit log: C2SP signed notes (c2sp.org/tlog-checkpoint, c2sp.org/signed-note).
//!
//! Owns their text and signature. Refuses to own which keys sign: a [`LogKeyChain`] says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rap_types::{Digest, InstallationId, Reason};

use crate::{LogKeyChain, PublicKey, Reject, Signer};

/// Cap on a note, bytes.
const CHECKPOINT_CAP: usize = 4096;

/// What a checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checkpoint {
    /// Life of the log it belongs to.
    pub generation: u64,
    /// Number of leaves.
    pub size: u64,
    /// Root of their tree.
    pub root: Digest,
}

impl Checkpoint {
    /// Signs the note of a log.
    pub fn sign(&self, installation: InstallationId, log_key: &Signer) -> Vec<u8> {
        let name = origin(installation, self.generation);
        let text = format!("{name}\n{}\n{}\n", self.size, STANDARD.encode(self.root.as_bytes()));
        let mut signature = key_hash(&name, &log_key.public()).to_vec();
        signature.extend_from_slice(&log_key.sign(text.as_bytes()));
        format!("{text}\n\u{2014} {name} {}\n", STANDARD.encode(signature)).into_bytes()
    }

    /// Verifies a note by the newest key of a log.
    ///
    /// # Errors
    /// `audit.malformed`, `audit.checkpoint`, `signature.invalid`.
    pub fn open(note: &[u8], log: &LogKeyChain) -> Result<Self, Reject> {
        let newest = log.newest();
        Self::open_by(note, log.installation(), newest.generation, &newest.key)
    }

    /// Verifies a note by one key.
    fn open_by(
        note: &[u8],
        installation: InstallationId,
        generation: u64,
        key: &PublicKey,
    ) -> Result<Self, Reject> {
        let malformed = |what| Reject::new(Reason::AuditMalformed, what);
        if note.len() > CHECKPOINT_CAP {
            return Err(malformed("a checkpoint is too long"));
        }
        let note = std::str::from_utf8(note).map_err(|_| malformed("a checkpoint is text"))?;
        let (text, signatures) = note.split_once("\n\n").ok_or(malformed("no blank line"))?;
        let line = signatures.strip_suffix('\n').ok_or(malformed("no line feed at the end"))?;
        let line = line.strip_prefix("\u{2014} ").ok_or(malformed("no signature line"))?;
        let (name, signature) = line.split_once(' ').ok_or(malformed("no signature"))?;
        let signature = canonical(signature, "signature")?;
        if signature.len() != 68 {
            return Err(malformed("a signature has 4 and 64 bytes"));
        }
        let expected = origin(installation, generation);
        let foreign = |what| Reject::new(Reason::AuditCheckpoint, what);
        if name != expected {
            return Err(foreign("another key's name"));
        }
        if signature[..4] != key_hash(&expected, key) {
            return Err(foreign("another key's signature"));
        }
        let signed = &note[..=text.len()];
        key.verify(signed.as_bytes(), &signature[4..])?;

        let mut lines = text.split('\n');
        let (Some(said), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(malformed("a checkpoint has three lines"));
        };
        if said != expected {
            return Err(foreign("origin"));
        }
        let number: u64 = size.parse().map_err(|_| malformed("size"))?;
        if number.to_string() != size {
            return Err(malformed("size"));
        }
        let root = Digest::from_slice(&canonical(root, "root")?).map_err(|_| malformed("root"))?;
        Ok(Self { generation, size: number, root })
    }

    /// Generation and size that a note claims. Not verified.
    pub fn peek(note: &[u8]) -> Option<(u64, u64)> {
        let text = std::str::from_utf8(note.get(..note.len().min(CHECKPOINT_CAP))?).ok()?;
        let mut lines = text.split('\n');
        let generation = lines.next()?.rsplit('/').next()?.parse().ok()?;
        Some((generation, lines.next()?.parse().ok()?))
    }
}

/// First line of a checkpoint and name of its key: the log of one installation, in one generation.
fn origin(installation: InstallationId, generation: u64) -> String {
    format!("rap.fabric/audit/{installation}/{generation}")
}

/// First four bytes of SHA-256(name || LF || 0x01 || public key).
fn key_hash(name: &str, key: &PublicKey) -> [u8; 4] {
    let hash = Digest::of(&[name.as_bytes(), b"\n\x01", key.as_bytes()]);
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

fn canonical(text: &str, what: &'static str) -> Result<Vec<u8>, Reject> {
    let malformed = Reject::new(Reason::AuditMalformed, what);
    let bytes = STANDARD.decode(text).map_err(|_| malformed)?;
    if STANDARD.encode(&bytes) == text { Ok(bytes) } else { Err(malformed) }
}
