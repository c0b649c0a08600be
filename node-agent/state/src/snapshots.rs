//! Snapshots in the cache: signed bytes under their order, chunks under their digest.
//!
//! Owns the write order (contents, then record, then flush; the previous one goes only after
//! activation) and the collection of chunks nobody refers to. Refuses to parse or believe any of it:
//! [`Snapshots::candidates`] hands out raw bytes to be verified again.

use std::collections::{BTreeMap, BTreeSet};

use rap_types::{Digest, HeadOrder};

use crate::cache::{Cache, Change, Tree};
use crate::error::StateError;

/// A snapshot to store. All byte fields are opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSnapshot {
    /// Key: order of the head.
    pub order: HeadOrder,
    /// Head envelope as received.
    pub head: Vec<u8>,
    /// Leaf fields.
    pub leaf: Vec<u8>,
    /// Inclusion proof.
    pub proof: Vec<u8>,
    /// Manifest slots.
    pub manifest: Vec<u8>,
    /// Ids of all chunks the manifest names.
    pub chunk_ids: Vec<Digest>,
    /// Chunks that are not stored yet.
    pub new_chunks: Vec<(Digest, Vec<u8>)>,
}

/// A snapshot as found on disk, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// Key under which it was stored.
    pub order: HeadOrder,
    /// Head envelope.
    pub head: Vec<u8>,
    /// Leaf fields.
    pub leaf: Vec<u8>,
    /// Inclusion proof.
    pub proof: Vec<u8>,
    /// Manifest slots.
    pub manifest: Vec<u8>,
    /// Chunks that are there.
    pub chunks: BTreeMap<Digest, Vec<u8>>,
    /// Chunks that were referred to and are not there.
    pub missing: Vec<Digest>,
}

/// The snapshots of one membership. One value per cache: puts and removals must not interleave.
#[derive(Debug)]
pub struct Snapshots {
    cache: Cache,
}

impl Snapshots {
    /// Uses the snapshot tree of `cache`.
    pub fn new(cache: Cache) -> Self {
        Self { cache }
    }

    /// Stores a snapshot beside those already there; it is on disk when this returns. The caller then
    /// raises the floor, activates, and calls [`Self::keep_only`].
    pub async fn put(&mut self, snapshot: NewSnapshot) -> Result<(), StateError> {
        let parts = [&snapshot.head, &snapshot.leaf, &snapshot.proof, &snapshot.manifest];
        let record = encode(parts, &snapshot.chunk_ids);
        let key = record_key(snapshot.order);
        let chunks = snapshot.new_chunks.into_iter();
        let mut changes: Vec<Change> = chunks.map(|(id, chunk)| put(chunk_key(&id), chunk)).collect();
        // Last: what the log keeps after a crash is a prefix, so a record never precedes its chunks.
        changes.push(put(key, record));
        self.cache.write_flushed(changes).await
    }

    /// All stored snapshots, highest order first, as raw bytes for verification.
    pub async fn candidates(&self) -> Result<Vec<StoredSnapshot>, StateError> {
        let mut found = Vec::new();
        for key in self.record_keys().await?.into_iter().rev() {
            let record = self.cache.read(Tree::Snapshot, &key).await?;
            let Some((order, record)) = order_of(&key).zip(record) else { continue };
            let Some(([head, leaf, proof, manifest], ids)) = decode(&record) else { continue };
            let (mut chunks, mut missing) = (BTreeMap::new(), Vec::new());
            for id in ids {
                match self.chunk(&id).await? {
                    Some(chunk) => drop(chunks.insert(id, chunk)),
                    None => missing.push(id),
                }
            }
            found.push(StoredSnapshot { order, head, leaf, proof, manifest, chunks, missing });
        }
        Ok(found)
    }

    /// One chunk, if stored.
    pub async fn chunk(&self, id: &Digest) -> Result<Option<Vec<u8>>, StateError> {
        self.cache.read(Tree::Snapshot, &chunk_key(id)).await
    }

    /// Removes every snapshot but the active one, and the chunks that only they referred to.
    pub async fn keep_only(&mut self, active: HeadOrder) -> Result<(), StateError> {
        let keep = record_key(active);
        self.remove_records(|key| *key != keep).await
    }

    /// Removes one snapshot (for example one that does not verify) and the chunks only it referred to.
    pub async fn discard(&mut self, order: HeadOrder) -> Result<(), StateError> {
        let gone = record_key(order);
        self.remove_records(|key| *key == gone).await
    }

    async fn remove_records(&mut self, unwanted: impl Fn(&Vec<u8>) -> bool) -> Result<(), StateError> {
        let (unwanted, kept): (Vec<_>, Vec<_>) = self.record_keys().await?.into_iter().partition(unwanted);
        let mut referred = BTreeSet::new();
        for key in &kept {
            let record = self.cache.read(Tree::Snapshot, key).await?;
            referred.extend(record.and_then(|record| decode(&record)).into_iter().flat_map(|(_, ids)| ids));
        }
        let chunks = self.cache.keys(Tree::Snapshot, CHUNK, usize::MAX).await?;
        let orphans = chunks.into_iter().filter(|key| {
            let id = key.strip_prefix(CHUNK).and_then(|id| Digest::from_slice(id).ok());
            id.is_none_or(|id| !referred.contains(&id))
        });
        // Records first: a crash in between leaves chunks without a record, never the reverse.
        let changes: Vec<Change> = unwanted
            .into_iter()
            .chain(orphans)
            .map(|key| Change::Remove { tree: Tree::Snapshot, key })
            .collect();
        if changes.is_empty() { Ok(()) } else { self.cache.write(changes).await }
    }

    async fn record_keys(&self) -> Result<Vec<Vec<u8>>, StateError> {
        self.cache.keys(Tree::Snapshot, RECORD, usize::MAX).await
    }
}

fn put(key: Vec<u8>, value: Vec<u8>) -> Change {
    Change::Put { tree: Tree::Snapshot, key, value }
}

fn chunk_key(id: &Digest) -> Vec<u8> {
    [CHUNK, id.as_bytes()].concat()
}

/// Big-endian, so that keys sort as heads do.
fn record_key(order: HeadOrder) -> Vec<u8> {
    let numbers = [order.incarnation.0, order.version.0, order.refresh.0];
    [RECORD, numbers.map(u64::to_be_bytes).as_flattened()].concat()
}

fn order_of(key: &[u8]) -> Option<HeadOrder> {
    let (numbers, []) = key.strip_prefix(RECORD)?.as_chunks::<8>() else { return None };
    let [incarnation, version, refresh] = <[[u8; 8]; 3]>::try_from(numbers).ok()?.map(u64::from_be_bytes);
    Some(HeadOrder::new(incarnation, version, refresh))
}

/// Four parts, each after its length (u32 big-endian), then the chunk ids.
fn encode(parts: [&Vec<u8>; 4], ids: &[Digest]) -> Vec<u8> {
    let mut record = Vec::new();
    for part in parts {
        // Parts are bounded by the cap of the cache, far below 4 GiB; a longer one is refused there.
        record.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        record.extend_from_slice(part);
    }
    record.extend(ids.iter().flat_map(|id| *id.as_bytes()));
    record
}

fn decode(mut record: &[u8]) -> Option<([Vec<u8>; 4], Vec<Digest>)> {
    let mut parts = [const { Vec::new() }; 4];
    for part in &mut parts {
        let (length, rest) = record.split_first_chunk::<4>()?;
        let (bytes, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        *part = bytes.to_vec();
        record = rest;
    }
    let (ids, []) = record.as_chunks::<32>() else { return None };
    Some((parts, ids.iter().map(|id| Digest::from_bytes(*id)).collect()))
}

const CHUNK: &[u8] = b"c";
const RECORD: &[u8] = b"s";
