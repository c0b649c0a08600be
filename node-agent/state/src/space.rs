//! Whether a directory can be written, and precisely why not.
//!
//! Owns the mapping of system errors to reasons for this crate and the write probe. Refuses to own what
//! to do about it.

use std::io;
use std::path::Path;

use rap_runtime::files::{FileError, write_atomic};
use rap_types::Reason;

use crate::error::StateError;

/// Room in the file system of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still write.
    pub available: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Writes, syncs and removes a small file in `dir`. Fails with `state.read_only`, `state.no_space` or
/// `state.io`.
pub fn probe(dir: &Path) -> Result<Space, StateError> {
    let path = dir.join(".probe");
    let written = write_atomic(&path, &[0x5a; PROBE_BYTES], 0o600);
    // Present only if the write got as far as the rename; its error is the one that matters.
    let _ = std::fs::remove_file(&path);
    written?;
    room(dir)
}

/// Room in the file system of `dir`, without writing.
pub fn room(dir: &Path) -> Result<Space, StateError> {
    let stat = nix::sys::statvfs::statvfs(dir)
        .map_err(|errno| FileError::Io { path: dir.to_owned(), source: errno.into() })?;
    let block = stat.fragment_size();
    Ok(Space { available: stat.blocks_available() * block, total: stat.blocks() * block })
}

/// The reason of an I/O error, also of one that lost its number on the way.
pub(crate) fn io_reason(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Reason::StateNoSpace,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Reason::StateReadOnly,
        _ => Reason::StateIo,
    }
}

const PROBE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writable_directory_has_room_and_keeps_no_probe_file() {
        let dir = tempfile::tempdir().unwrap();
        let space = probe(dir.path()).unwrap();
        assert!(space.available > 0 && space.total >= space.available);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn reason_survives_an_error_that_lost_its_number() {
        for (errno, reason) in [
            (nix::errno::Errno::ENOSPC, Reason::StateNoSpace),
            (nix::errno::Errno::EDQUOT, Reason::StateNoSpace),
            (nix::errno::Errno::EROFS, Reason::StateReadOnly),
            (nix::errno::Errno::EACCES, Reason::StateReadOnly),
            (nix::errno::Errno::EIO, Reason::StateIo),
        ] {
            let raw = io::Error::from_raw_os_error(errno as i32);
            assert_eq!(io_reason(&io::Error::new(raw.kind(), raw.to_string())), reason);
            assert_eq!(io_reason(&raw), reason);
        }
    }
}
