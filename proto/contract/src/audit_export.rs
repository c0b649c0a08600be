//! The file of an audit export: entries, checkpoints and the chain from the Product Root, checkable
//! with no network.
//!
//! It holds only signed or hash-bound fields, so any altered byte is found.

use prost::Message as _;
use rap_types::{ClusterId, KeyId, Reason};
use rap_wire::v1;

use crate::{
    ActivationTerms, AuditEntry, AuditFrontier, Checkpoint, Expectation, FEATURE_DEV, KeySet, LogKeyChain,
    Reject, audit_leaf_hash,
};

/// Cap on an audit export, bytes.
pub const AUDIT_EXPORT_CAP: usize = 1024 * 1024 * 1024;

/// What an audit export proves.
#[derive(Debug, Clone)]
pub struct VerifiedAuditExport {
    /// Product Root keys that signed the manifest.
    pub roots: Vec<KeyId>,
    /// What the manifest binds.
    pub activation: ActivationTerms,
    /// The log's keys.
    pub log: LogKeyChain,
    /// Its checkpoints, by size; the last covers every entry.
    pub checkpoints: Vec<Checkpoint>,
    /// The entries, in tree order.
    pub entries: Vec<AuditEntry>,
    /// True if a development installation signed it.
    pub dev: bool,
}

/// Encodes an export.
pub fn encode_audit_export(
    activation_manifest: &[u8],
    log: &LogKeyChain,
    checkpoints: &[Vec<u8>],
    entries: Vec<Vec<u8>>,
) -> Vec<u8> {
    v1::AuditExport {
        activation_manifest: activation_manifest.to_vec(),
        log_key_records: log.envelopes().to_vec(),
        checkpoints: checkpoints.to_vec(),
        entries,
    }
    .encode_to_vec()
}

/// Verifies an export against Product Root keys, in the order root, activation, log keys, checkpoints,
/// entries.
///
/// # Errors
/// `audit.malformed`, `audit.checkpoint`, `audit.proof`, `audit.inconsistent`, and those of the parts.
pub fn open_audit_export(
    bytes: &[u8],
    roots: &KeySet,
    accept_dev: bool,
) -> Result<VerifiedAuditExport, Reject> {
    let malformed = |what| Reject::new(Reason::AuditMalformed, what);
    if bytes.len() > AUDIT_EXPORT_CAP {
        return Err(malformed("an export is too long"));
    }
    let export =
        v1::AuditExport::decode(bytes).map_err(|_| malformed("does not decode as an audit export"))?;
    if export.encode_to_vec() != bytes {
        return Err(malformed("does not re-encode to the same bytes"));
    }
    let features: &[&str] = if accept_dev { &[FEATURE_DEV] } else { &[] };
    let expect = Expectation { cluster: Some(ClusterId::ZERO), features, ..Expectation::default() };
    let (manifest, activation) = ActivationTerms::open(&export.activation_manifest, roots, &expect)?;
    let log = LogKeyChain::verify(
        &export.log_key_records,
        &activation.installation_authority,
        activation.installation,
        features,
    )?;
    let checkpoints: Vec<Checkpoint> =
        export.checkpoints.iter().map(|note| Checkpoint::open(note, &log)).collect::<Result<_, _>>()?;
    let last = checkpoints.last().ok_or(malformed("an export has a checkpoint"))?;
    if !checkpoints.windows(2).all(|pair| pair[0].size < pair[1].size) {
        return Err(malformed("checkpoints are sorted by size"));
    }
    if last.size != export.entries.len() as u64 {
        return Err(malformed("the last checkpoint covers every entry"));
    }
    let entries = replay(&export.entries, &log, &checkpoints)?;
    let dev = manifest.header().is_dev();
    Ok(VerifiedAuditExport { roots: manifest.signers().to_vec(), activation, log, checkpoints, entries, dev })
}

/// Hashes the entries in order and compares each root that was signed on the way.
fn replay(
    encoded: &[Vec<u8>],
    log: &LogKeyChain,
    checkpoints: &[Checkpoint],
) -> Result<Vec<AuditEntry>, Reject> {
    let newest = log.newest();
    let signed = checkpoints.iter().map(|checkpoint| (checkpoint.size, checkpoint.root));
    let mut signed: Vec<_> = signed.chain([(newest.first_size, newest.first_root)]).collect();
    signed.sort_unstable();
    let mut signed = signed.into_iter().peekable();
    let mut frontier = AuditFrontier::default();
    let mut entries = Vec::with_capacity(encoded.len());
    let mut encoded = encoded.iter();
    loop {
        while let Some((_, root)) = signed.next_if(|(size, _)| *size == frontier.size()) {
            if root != frontier.root() {
                return Err(Reject::new(Reason::AuditProof, "the entries do not lead to a signed root"));
            }
        }
        let Some(bytes) = encoded.next() else { break };
        entries.push(AuditEntry::decode(bytes)?);
        frontier.push(audit_leaf_hash(bytes));
    }
    match signed.next() {
        None => Ok(entries),
        Some(_) => Err(Reject::new(Reason::AuditProof, "fewer entries than the generation began with")),
    }
}
