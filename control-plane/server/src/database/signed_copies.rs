//! The newest signed documents of this replica on disk: `signed-copies.json` in the data directory, beside its floors.
//!
//! Owns the file and how many documents it keeps. With them a database that lost a commit is put right by the replica
//! that signed it; without them every operator would be locked out by the floor. Refuses to own a decision: a copy
//! counts by its signature, and only up to the floor.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rap_runtime::files;
use rap_store::SignedCopy;
use rap_types::{Reason, Wall};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Name of the file in the data directory.
pub(crate) const COPIES_FILE: &str = "signed-copies.json";

/// The copies of this replica. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct SignedCopies {
    path: PathBuf,
    kept: Arc<Mutex<Vec<Kept>>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// When it was kept, Unix milliseconds.
    at_ms: i64,
    copy: SignedCopy,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: String,
    copies: Vec<Kept>,
}

impl SignedCopies {
    /// Reads the file. One that is absent or damaged is an empty one: copies only help. Blocks.
    pub fn open(path: PathBuf) -> Self {
        let document = match files::read_capped(&path, 4 * BYTES) {
            Ok(bytes) => serde_json::from_slice::<Document>(&bytes).ok().filter(|read| read.schema == SCHEMA),
            Err(error) if error.is_not_found() => {
                Some(Document { schema: String::new(), copies: Vec::new() })
            }
            Err(_) => None,
        };
        if document.is_none() {
            tracing::warn!(path = %path.display(), "no copies of signed documents could be read; they are collected anew");
        }
        let copies = document.map(|document| document.copies).unwrap_or_default();
        Self { path, kept: Arc::new(Mutex::new(copies)) }
    }

    /// Keeps copies; of each kind and cluster the newest 64, and no more than 4 MiB in all. On disk when this returns
    /// `Ok`. What is known already is not written again.
    ///
    /// # Errors
    /// `state.io` or `state.no_space` of the write; the copies are kept in memory then.
    pub async fn keep(&self, now: Wall, copies: Vec<SignedCopy>) -> Result<(), Failure> {
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || this.keep_blocking(now, copies)).await;
        written.map_err(|_| Failure::new(Reason::StateIo, "writing copies was cut off"))?
    }

    fn keep_blocking(&self, now: Wall, copies: Vec<SignedCopy>) -> Result<(), Failure> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = false;
        for copy in copies {
            if kept.iter().any(|known| known.copy == copy) {
                continue;
            }
            // Another document of this place never counted.
            kept.retain(|known| known.copy.row() != copy.row());
            kept.push(Kept { at_ms: now.0, copy });
            new = true;
        }
        if !new {
            return Ok(());
        }
        trim(&mut kept);
        let document = Document { schema: SCHEMA.to_owned(), copies: kept.clone() };
        let text = serde_json::to_vec(&document).map_err(Failure::of(Reason::ServerInternal))?;
        Ok(files::write_atomic(&self.path, &text, 0o600)?)
    }

    /// The copies that were kept after the database was restored from a backup, in the order in which they were kept.
    pub fn since(&self, restored: Option<Wall>) -> Vec<SignedCopy> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let after = |kept: &&Kept| restored.is_none_or(|at| kept.at_ms > at.0);
        kept.iter().filter(after).map(|kept| kept.copy.clone()).collect()
    }
}

/// Whether two copies are of one chain.
fn kin(one: &SignedCopy, other: &SignedCopy) -> bool {
    match (one, other) {
        (SignedCopy::Revocation { cluster, .. }, SignedCopy::Revocation { cluster: of, .. }) => cluster == of,
        (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

fn trim(kept: &mut Vec<Kept>) {
    let mut bytes = 0;
    let mut newest: Vec<Kept> = Vec::new();
    for candidate in kept.drain(..).rev() {
        let of_its_chain = newest.iter().filter(|known| kin(&known.copy, &candidate.copy)).count();
        bytes += candidate.copy.bytes().len();
        if of_its_chain < MOST && bytes <= BYTES {
            newest.push(candidate);
        }
    }
    newest.reverse();
    *kept = newest;
}

const SCHEMA: &str = "rap.signed-copies.v1";

const MOST: usize = 64;

const BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use rap_types::{ClusterId, Digest};

    fn set(sequence: u64, byte: u8) -> SignedCopy {
        SignedCopy::RoleGrantSet {
            sequence,
            digest: Digest::from_bytes([byte; 32]),
            envelope: vec![byte; 300],
        }
    }

    #[tokio::test]
    async fn the_newest_64_of_each_chain_are_kept_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(COPIES_FILE);
        let copies = SignedCopies::open(path.clone());
        let record = |sequence| SignedCopy::Revocation {
            cluster: ClusterId::from_bytes([1; 16]),
            sequence,
            record: vec![9; 100],
        };
        copies.keep(Wall(1_000), vec![record(1)]).await.unwrap();
        for sequence in 1..=70 {
            copies.keep(Wall(2_000), vec![set(sequence, 1)]).await.unwrap();
        }
        let again = SignedCopies::open(path.clone()).since(None);
        assert_eq!(again, copies.since(None));
        assert_eq!(again.len(), 65);
        assert_eq!((&again[0], &again[1], again.last()), (&record(1), &set(7, 1), Some(&set(70, 1))));
        // Another document of one place takes the place.
        copies.keep(Wall(3_000), vec![set(70, 2)]).await.unwrap();
        assert_eq!(copies.since(None).last(), Some(&set(70, 2)));
        // What was kept before a restore counts no more.
        assert_eq!(copies.since(Some(Wall(2_500))), [set(70, 2)]);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(SignedCopies::open(path).since(None), []);
    }
}
