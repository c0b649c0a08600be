//! A copy of the database in memory, for a disk without room.
//!
//! Owns the folder of the copy, which only this account can enter, and its end.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process;

use super::preflight;

/// A folder in memory with a copy of the database; it is removed when this is dropped.
pub(crate) struct MemoryCopy {
    folder: PathBuf,
    number: u64,
}

impl MemoryCopy {
    /// Copies the present database; `None` if there is none, or no folder in memory.
    pub(crate) fn of(cache: &Path) -> Option<Self> {
        let number = preflight::newest(cache)?;
        let names =
            (0..TRIES).flat_map(|n| MEMORY.map(|memory| format!("{memory}/rap-cache-{}-{n}", process::id())));
        // Made here: a folder that was there may be anybody's.
        let make = |folder: &PathBuf| DirBuilder::new().mode(0o700).create(folder).is_ok();
        let folder = names.map(PathBuf::from).find(make)?;
        let copy = Self { folder, number };
        copied(&preflight::path_of(cache, number), &copy.folder).ok().map(|()| copy)
    }

    /// The folder of the copy.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Number of the database.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for MemoryCopy {
    fn drop(&mut self) {
        // What stays is gone with the next boot.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn copied(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copied(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// File systems in memory that a process can usually write to.
const MEMORY: [&str; 2] = ["/dev/shm", "/run/rap"];
const TRIES: u32 = 64;
