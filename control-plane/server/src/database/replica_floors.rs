//! The floors of this replica on disk: `floors.json` in the data directory.
//!
//! Owns the file. Refuses to make it by itself where it is absent: a replica without floors does not
//! know what it must not accept less of, and the caller decides what that means.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rap_authority::{Floor, FloorOf, ReplicaFloors};
use rap_runtime::files;
use rap_types::Reason;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Name of the file in the data directory.
pub(crate) const FLOORS_FILE: &str = "floors.json";

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
    pub fn open(path: PathBuf) -> Result<Self, Failure> {
        let floors = match files::read_capped(&path, CAP) {
            Ok(bytes) => Some(parse(&bytes).map_err(|reason| {
                Failure::new(reason, format!("{}: not the floors of a replica", path.display()))
            })?),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
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

    /// Makes the file of a replica that makes an installation, unless there is one. Blocks.
    ///
    /// # Errors
    /// `state.io` or `state.no_space`: the floors file could not be written.
    pub fn begin(&self) -> Result<(), Failure> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_none() {
            let fresh = ReplicaFloors::fresh();
            self.write(&fresh)?;
            *current = Some(fresh);
        }
        Ok(())
    }

    /// Takes over what was written into the file meanwhile, where it is higher.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn reload(&self) -> Result<(), Failure> {
        let file = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut current = file.current.lock().unwrap_or_else(PoisonError::into_inner);
            *current = file.merged(current.clone())?;
            Ok(())
        });
        read.await.map_err(|_| Failure::new(Reason::StateIo, "reading the floors was cut off"))?
    }

    /// Sets one floor to what a person confirmed, lower if need be. On disk when this returns `Ok`.
    ///
    /// # Errors
    /// `state.io` or `state.no_space`: the floors file could not be written.
    pub async fn confirm(&self, of: FloorOf, at: Floor) -> Result<(), Failure> {
        let file = self.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut current = file.current.lock().unwrap_or_else(PoisonError::into_inner);
            let next = current.clone().unwrap_or_default().confirmed(of, at);
            file.write(&next)?;
            *current = Some(next);
            Ok(())
        });
        written.await.map_err(|_| Failure::new(Reason::StateIo, "writing the floors was cut off"))?
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
        if let Some(floors) = current.as_ref().filter(|floors| floors.of(of) == Some(offered)) {
            floors.admit(of, offered)?;
            return Ok(());
        }
        // Another process of this data directory may have raised floors, too.
        let present = self.merged(current.clone())?;
        current.clone_from(&present);
        let next = present.clone().unwrap_or_default().raised(of, offered)?;
        if present.as_ref() != Some(&next) {
            self.write(&next)?;
        }
        // What others raised meanwhile is on disk; calls that are under way here go by what was known.
        *current = Some(current.clone().map_or(next, |known| known.confirmed(of, offered)));
        Ok(())
    }

    /// What is on disk with what is known, the higher of each floor.
    fn merged(&self, known: Option<ReplicaFloors>) -> Result<Option<ReplicaFloors>, Failure> {
        let stored = Self::open(self.path.clone())?;
        Ok(match (known, stored.current()) {
            (Some(known), Some(stored)) => Some(known.merged(&stored)),
            (known, stored) => known.or(stored),
        })
    }

    fn write(&self, floors: &ReplicaFloors) -> Result<(), Failure> {
        let document = Document { schema: SCHEMA.to_owned(), floors: floors.clone() };
        let text = serde_json::to_vec_pretty(&document).map_err(Failure::of(Reason::ServerInternal))?;
        Ok(files::write_atomic(&self.path, &text, 0o600)?)
    }
}

fn parse(bytes: &[u8]) -> Result<ReplicaFloors, Reason> {
    let document: Document = serde_json::from_slice(bytes).map_err(|_| Reason::StateCorrupt)?;
    if document.schema == SCHEMA { Ok(document.floors) } else { Err(Reason::StateSchema) }
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

    #[tokio::test]
    async fn two_processes_of_one_directory_never_lower_each_others_floors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floors.json");
        let (one, two) = (FloorFile::open(path.clone()).unwrap(), FloorFile::open(path.clone()).unwrap());
        let floor = |sequence| Floor { sequence, digest: Digest::from_bytes([sequence as u8; 32]) };
        one.begin().unwrap();
        one.raise(FloorOf::GrantSet, floor(5)).await.unwrap();
        two.raise(FloorOf::Checkpoint, floor(2)).await.unwrap();
        let both = FloorFile::open(path.clone()).unwrap().current().unwrap();
        assert_eq!(both.of(FloorOf::GrantSet), Some(floor(5)));
        assert_eq!(both.of(FloorOf::Checkpoint), Some(floor(2)));
        one.reload().await.unwrap();
        assert_eq!(one.current(), Some(both));
        // Only a person's word lowers one.
        assert_eq!(two.raise(FloorOf::GrantSet, floor(4)).await.unwrap_err().reason, Reason::FloorRollback);
        two.confirm(FloorOf::GrantSet, floor(4)).await.unwrap();
        let lowered = FloorFile::open(path).unwrap().current().unwrap();
        assert_eq!(lowered.of(FloorOf::GrantSet), Some(floor(4)));
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
