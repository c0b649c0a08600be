//! The floors of this replica on disk: `floors.json` in the data directory.
//!
//! Owns the file. Refuses to make it by itself where it is absent: a replica without floors does not
//! know what it must not accept less of, and the caller decides what that means.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rap_authority::{Floor, FloorOf, ReplicaFloors};
use rap_runtime::Fault;
use rap_runtime::files::{self, FileError};
use rap_types::Reason;
use serde::{Deserialize, Serialize};

use crate::grpc::Failure;

/// Name of the file in the data directory.
pub const FLOORS_FILE: &str = "floors.json";

/// The floors of this replica. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct FloorFile {
    path: PathBuf,
    current: Arc<Mutex<Option<ReplicaFloors>>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: String,
    floors: ReplicaFloors,
}

impl FloorFile {
    /// Reads the file. Blocks.
    ///
    /// # Errors
    /// `state.corrupt`, `state.schema`, `secret.exposed`, those of reading. Absence is not an error.
    pub fn open(path: PathBuf) -> Result<Self, Fault> {
        let floors = match files::read_capped(&path, CAP) {
            Ok(bytes) => Some(parse(&bytes).map_err(|reason| {
                Fault::new(reason, format!("{}: not the floors of a replica", path.display()))
            })?),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(fault(&error)),
        };
        Ok(Self { path, current: Arc::new(Mutex::new(floors)) })
    }

    /// The floors; `None` where the file is absent.
    pub fn current(&self) -> Option<ReplicaFloors> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True if this replica has floors.
    pub fn exists(&self) -> bool {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Raises one floor. It is on disk when this returns `Ok`; a raise that changes nothing writes
    /// nothing. A first raise makes the file.
    ///
    /// # Errors
    /// `floor.rollback`, `floor.equivocation`, those of writing.
    pub async fn raise(&self, of: FloorOf, offered: Floor) -> Result<(), Failure> {
        let file = self.clone();
        let written = tokio::task::spawn_blocking(move || file.raise_blocking(of, offered)).await;
        written.map_err(|_| Failure::new(Reason::StateIo, "writing the floors was cut off"))?
    }

    fn raise_blocking(&self, of: FloorOf, offered: Floor) -> Result<(), Failure> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let present = current.clone();
        let next = present.clone().unwrap_or_default().raised(of, offered)?;
        if present.as_ref() == Some(&next) {
            return Ok(());
        }
        let document = Document { schema: SCHEMA.to_owned(), floors: next.clone() };
        let text = serde_json::to_vec_pretty(&document)
            .map_err(|error| Failure::new(Reason::ServerInternal, error.to_string()))?;
        files::write_atomic(&self.path, &text, 0o600)
            .map_err(|error| Failure::new(error.reason(), error.to_string()))?;
        *current = Some(next);
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Result<ReplicaFloors, Reason> {
    let document: Document = serde_json::from_slice(bytes).map_err(|_| Reason::StateCorrupt)?;
    if document.schema == SCHEMA { Ok(document.floors) } else { Err(Reason::StateSchema) }
}

fn fault(error: &FileError) -> Fault {
    Fault::new(error.reason(), error.to_string())
}

const SCHEMA: &str = "rap.replica-floors.v1";
const CAP: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use rap_types::Digest;

    #[tokio::test]
    async fn a_raised_floor_is_on_disk_and_never_falls() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floors.json");
        let file = FloorFile::open(path.clone()).unwrap();
        assert!(!file.exists());
        let floor = |sequence| Floor { sequence, digest: Digest::from_bytes([sequence as u8; 32]) };
        file.raise(FloorOf::GrantSet, floor(3)).await.unwrap();
        let reopened = FloorFile::open(path.clone()).unwrap();
        assert_eq!(reopened.current().unwrap().of(FloorOf::GrantSet), Some(floor(3)));
        let lower = reopened.raise(FloorOf::GrantSet, floor(2)).await.unwrap_err();
        assert_eq!(lower.reason, Reason::FloorRollback);
        assert_eq!(FloorFile::open(path).unwrap().current(), file.current());
    }

    #[test]
    fn a_damaged_or_newer_file_stops_the_replica() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floors.json");
        for (text, reason) in [
            ("{", Reason::StateCorrupt),
            (r#"{"schema":"rap.replica-floors.v1","floors":{"grant_set":null}}"#, Reason::StateCorrupt),
            (
                r#"{"schema":"rap.replica-floors.v9","floors":{"grant_set":null,"revocations":{},"checkpoint":null}}"#,
                Reason::StateSchema,
            ),
        ] {
            files::write_atomic(&path, text.as_bytes(), 0o600).unwrap();
            assert_eq!(FloorFile::open(path.clone()).unwrap_err().reason, reason, "{text}");
        }
    }
}
