//! Encoded chunks under the ids that their bytes have.

use std::collections::BTreeMap;
use std::sync::Arc;

use rap_types::Digest;

use crate::chunk_id;

/// Encoded chunks by id. Each id was computed from the bytes when the chunk was put in: a chunk under another id
/// cannot be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChunksById(BTreeMap<Digest, Arc<[u8]>>);

impl ChunksById {
    /// The chunk with this id.
    pub fn get(&self, id: &Digest) -> Option<&Arc<[u8]>> {
        self.0.get(id)
    }

    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without chunks.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts a chunk in; returns its id.
    pub fn insert(&mut self, chunk: Arc<[u8]>) -> Digest {
        let id = chunk_id(&chunk);
        self.0.insert(id, chunk);
        id
    }

    /// Highest id.
    pub fn last(&self) -> Option<&Digest> {
        self.0.last_key_value().map(|(id, _)| id)
    }
}

impl FromIterator<Arc<[u8]>> for ChunksById {
    fn from_iter<I: IntoIterator<Item = Arc<[u8]>>>(chunks: I) -> Self {
        Self(chunks.into_iter().map(|chunk| (chunk_id(&chunk), chunk)).collect())
    }
}
