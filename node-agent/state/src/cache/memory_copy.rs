//! A copy of the database in memory, for a disk without room.
//!
//! Owns the folder of the copy, which only this account can enter, and its end. The process that uses a copy holds a
//! lock on its folder: what a killed process left is known by that, and the next copy removes it.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process;

use nix::fcntl::{Flock, FlockArg};

use super::preflight;

/// A folder in memory with a copy of the database; it is removed when this is dropped.
pub(crate) struct MemoryCopy {
    folder: PathBuf,
    number: u64,
    _lock: Flock<File>,
}

impl MemoryCopy {
    /// Copies the present database; `None` if there is none, or no folder in memory.
    pub(crate) fn of(cache: &Path) -> Option<Self> {
        let number = preflight::newest(cache)?;
        MEMORY.iter().for_each(|memory| remove_left(Path::new(memory)));
        let names =
            (0..TRIES).flat_map(|n| MEMORY.map(|memory| format!("{memory}/{PREFIX}{}-{n}", process::id())));
        let (folder, lock) = names.map(PathBuf::from).find_map(made)?;
        let copy = Self { folder, number, _lock: lock };
        preflight::copied(&preflight::path_of(cache, number), &copy.folder).ok().map(|()| copy)
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
        // What stays is removed with the next copy.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The folder, made and locked here: one that was there may be anybody's.
fn made(folder: PathBuf) -> Option<(PathBuf, Flock<File>)> {
    DirBuilder::new().mode(0o700).create(&folder).ok()?;
    let lock = unused(&folder)?;
    // Until it was locked it looked like one that was left.
    (lock.metadata().ok()?.nlink() > 0).then_some((folder, lock))
}

/// The lock of a folder that no process uses.
fn unused(folder: &Path) -> Option<Flock<File>> {
    Flock::lock(File::open(folder).ok()?, FlockArg::LockExclusiveNonblock).ok()
}

/// Removes the copies of this account's processes that were killed.
fn remove_left(memory: &Path) {
    let own = nix::unistd::geteuid().as_raw();
    for entry in fs::read_dir(memory).into_iter().flatten().flatten() {
        let is_copy = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        // Not followed: a link is nobody's copy.
        if is_copy
            && entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == own)
            && let Some(_lock) = unused(&entry.path())
        {
            // What cannot be removed now is tried again with the next copy.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// File systems in memory that a process can usually write to.
const MEMORY: [&str; 2] = ["/dev/shm", "/run/rap"];
const PREFIX: &str = "rap-cache-";
const TRIES: u32 = 64;
