//! The export file: a snapshot with the whole chain from the Product Root, checkable with no network.
//!
//! It holds only signed or hash-bound fields, so any altered byte is found.

use prost::Message as _;
use rap_types::{ClusterId, Digest, KeyId, NodeId, Reason};
use rap_wire::v1;

use crate::{
    ActivationTerms, AuthorityChain, ChunksById, Expectation, FEATURE_DEV, HeadFacts, KeySet, Manifest,
    Reject, SnapshotParts, VerifiedSnapshot,
};

/// Cap on an export, bytes.
pub const EXPORT_CAP: usize = 64 * 1024 * 1024;

/// What an export proves, link by link.
#[derive(Debug, Clone)]
pub struct VerifiedExport {
    /// Product Root keys that signed the manifest.
    pub roots: Vec<KeyId>,
    /// What the manifest binds.
    pub activation: ActivationTerms,
    /// The cluster's authority records.
    pub chain: AuthorityChain,
    /// The snapshot.
    pub snapshot: VerifiedSnapshot,
    /// True if a development installation signed it.
    pub dev: bool,
}

/// The values people compare.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ExportSummary {
    /// Cluster.
    pub cluster: ClusterId,
    /// Node.
    pub node: NodeId,
    /// Hash of the node's leaf.
    pub leaf: Digest,
}

impl VerifiedExport {
    /// The values people compare.
    pub fn summary(&self) -> ExportSummary {
        ExportSummary {
            cluster: self.snapshot.cluster(),
            node: self.snapshot.node(),
            leaf: self.snapshot.leaf_hash(),
        }
    }
}

/// Encodes a verified snapshot with its chain.
pub fn encode_export(
    activation_manifest: &[u8],
    authority_records: &[Vec<u8>],
    snapshot: &VerifiedSnapshot,
) -> Vec<u8> {
    let parts = snapshot.parts();
    v1::SnapshotExport {
        activation_manifest: activation_manifest.to_vec(),
        authority_records: authority_records.to_vec(),
        head: parts.head.0.envelope().to_vec(),
        leaf: Some(parts.leaf.clone()),
        proof: Some(parts.proof.clone()),
        slots: parts.manifest.to_wire(),
        chunks: parts.chunks.values().map(|chunk| chunk.to_vec()).collect(),
    }
    .encode_to_vec()
}

/// Verifies an export against Product Root keys.
///
/// # Errors
/// `snapshot.malformed`, `snapshot.too_large` and every error of the parts, in the order root,
/// activation, authority records, head, proof, chunks.
pub fn open_export(bytes: &[u8], roots: &KeySet, accept_dev: bool) -> Result<VerifiedExport, Reject> {
    let malformed = |what| Reject::new(Reason::SnapshotMalformed, what);
    Reject::when(bytes.len() > EXPORT_CAP, Reason::SnapshotTooLarge, "export")?;
    let export = v1::SnapshotExport::decode(bytes).map_err(|_| malformed("does not decode as an export"))?;
    if export.encode_to_vec() != bytes {
        return Err(malformed("does not re-encode to the same bytes"));
    }
    let features: &[&str] = if accept_dev { &[FEATURE_DEV] } else { &[] };
    let expect = Expectation { cluster: Some(ClusterId::ZERO), features, ..Expectation::default() };
    let (manifest, activation) = ActivationTerms::open(&export.activation_manifest, roots, &expect)?;
    let cluster = cluster_of(&export.authority_records)?;
    let chain = AuthorityChain::verify(
        &export.authority_records,
        &activation.installation_authority,
        activation.installation,
        cluster,
        features,
    )?;
    let expect = Expectation::within(activation.installation, cluster, features);
    let head = HeadFacts::open(&export.head, &chain.keys::<v1::ClusterHead>(), &expect)?;
    if head.1.order.incarnation.0 < chain.incarnation() {
        return Err(Reject::new(Reason::ChainBroken, "head is older than the authority record"));
    }
    let dev = head.0.header().is_dev();
    let parts = SnapshotParts {
        head,
        leaf: export.leaf.ok_or(malformed("leaf"))?,
        proof: export.proof.ok_or(malformed("proof"))?,
        manifest: Manifest::from_wire(&export.slots)?,
        chunks: read_chunks(export.chunks)?,
    };
    let carried = parts.chunks.len();
    let snapshot = VerifiedSnapshot::verify(parts, None)?;
    if snapshot.parts().chunks.len() != carried {
        return Err(malformed("a chunk no slot names"));
    }
    Ok(VerifiedExport { roots: manifest.signers().to_vec(), activation, chain, snapshot, dev })
}

/// The cluster that the first record names; the chain's verification then requires it of every part.
fn cluster_of(records: &[Vec<u8>]) -> Result<ClusterId, Reject> {
    let malformed = || Reject::new(Reason::SnapshotMalformed, "authority_records");
    let first = records.first().ok_or(malformed())?;
    let envelope = v1::SignedEnvelope::decode(first.as_slice()).map_err(|_| malformed())?;
    let record = v1::AuthorityRecord::decode(envelope.payload.as_slice()).map_err(|_| malformed())?;
    let header = record.header.ok_or(malformed())?;
    ClusterId::from_slice(&header.cluster_id).ok().filter(|id| !id.is_zero()).ok_or(malformed())
}

fn read_chunks(chunks: Vec<Vec<u8>>) -> Result<ChunksById, Reject> {
    let mut by_id = ChunksById::default();
    for chunk in chunks {
        let last = by_id.last().copied();
        let id = by_id.insert(chunk.into());
        if last.is_some_and(|last| last >= id) {
            return Err(Reject::new(Reason::SnapshotMalformed, "chunks are not sorted by id"));
        }
    }
    Ok(by_id)
}
