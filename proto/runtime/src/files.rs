//! Files that must survive a crash or stay private.
//!
//! Owns the order write, fsync, rename, fsync of the directory, and permission checks. Refuses to own
//! formats: what is in the bytes is the caller's. Calls block; async callers use `spawn_blocking`. A pipe
//! or device in a file's place may be read, but is not waited for without end.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rap_types::{Mono, Reason};

use crate::clock::Clock;

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is longer than its cap.
    #[error("{}: longer than {cap} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes it may have.
        cap: usize,
    },
    /// Users other than the owner may read or change it, or it belongs to somebody else.
    #[error("{}: mode {mode:03o} or owner {owner} exposes it", path.display())]
    Exposed {
        /// File or directory.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
        /// User id of the owner.
        owner: u32,
    },
}

impl FileError {
    /// Stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Io { source, .. } => io_reason(source),
            Self::TooLarge { .. } => Reason::StateIo,
            Self::Exposed { .. } => Reason::SecretExposed,
        }
    }

    /// What happened, for a caller that names the file itself.
    pub fn without_path(&self) -> String {
        match self {
            Self::Io { source, .. } => source.to_string(),
            Self::TooLarge { cap, .. } => format!("longer than {cap} bytes"),
            Self::Exposed { mode, owner, .. } => format!("mode {mode:03o} or owner {owner} exposes it"),
        }
    }

    /// True if there is no such file.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The result of a removal, where nothing to remove is as good.
pub fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Replaces `path` by a file with these bytes and this mode. After `Ok` the bytes are on disk; after
/// a crash or an error `path` has either the old bytes or the new ones.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let (temporary, mut file) = create_beside(path, mode).map_err(at(path))?;
    let written = fill(&mut file, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one to report; a left-over temporary file harms nobody.
        let _ = fs::remove_file(&temporary);
        return Err(at(path)(error));
    }
    sync_parent(path)
}

/// Writes a file that does not exist yet. After an error there is none, unless it was there before.
pub fn create_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(at(path))?;
    if let Err(error) = fill(&mut file, bytes, mode) {
        // Half a file is worth less than none.
        let _ = fs::remove_file(path);
        return Err(at(path)(error));
    }
    sync_parent(path)
}

/// Makes `path` a directory that only its owner may enter (0700); parents keep the umask's mode.
/// An existing directory is narrowed; a symbolic link or somebody else's directory is refused.
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(at(parent))?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => narrow(path),
        Err(error) => Err(at(path)(error)),
    }
}

/// Reads a file of at most `cap` bytes.
pub fn read_capped(path: &Path, cap: usize) -> Result<Vec<u8>, FileError> {
    let file = open(path).map_err(at(path))?;
    read_open(path, file, cap)
}

/// Opens a regular file to seek in; anything else in its place is refused.
pub fn open_regular(path: &Path) -> Result<File, FileError> {
    let file = open(path).map_err(at(path))?;
    if file.metadata().map_err(at(path))?.is_file() {
        return Ok(file);
    }
    Err(at(path)(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")))
}

/// As [`read_capped`], for text.
pub(crate) fn read_text(path: &Path, cap: usize) -> Result<String, FileError> {
    let not_text = |_| at(path)(io::Error::new(io::ErrorKind::InvalidData, "not a text file"));
    String::from_utf8(read_capped(path, cap)?).map_err(not_text)
}

/// Reads a secret of at most `cap` bytes from a file that others can neither read nor change.
pub fn read_secret(path: &Path, cap: usize) -> Result<Vec<u8>, FileError> {
    let file = open(path).map_err(at(path))?;
    let metadata = file.metadata().map_err(at(path))?;
    let mode = metadata.mode() & 0o777;
    // The group may read (systemd and key groups do that); it may not write.
    if mode & 0o027 != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode, owner: metadata.uid() });
    }
    read_open(path, file, cap)
}

/// Reads a file of at most `cap` bytes that only this process's user or root can change.
pub fn read_guarded(path: &Path, cap: usize) -> Result<Vec<u8>, FileError> {
    let file = open(path).map_err(at(path))?;
    let metadata = file.metadata().map_err(at(path))?;
    let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
    if mode & 0o022 != 0 || (owner != 0 && owner != nix::unistd::geteuid().as_raw()) {
        return Err(FileError::Exposed { path: path.to_owned(), mode, owner });
    }
    read_open(path, file, cap)
}

fn create_beside(path: &Path, mode: u32) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    loop {
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let temporary = path.with_file_name(temporary);
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            // Left by a process of the same id that crashed: take the next number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn fill(file: &mut File, bytes: &[u8], mode: u32) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(at(parent))
}

fn narrow(path: &Path) -> Result<(), FileError> {
    let metadata = fs::symlink_metadata(path).map_err(at(path))?;
    if !metadata.is_dir() {
        return Err(at(path)(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    let mode = metadata.mode() & 0o777;
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(FileError::Exposed { path: path.to_owned(), mode, owner: metadata.uid() });
    }
    if mode != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(at(path))?;
    }
    Ok(())
}

/// Opens a file, or a pipe without waiting for its writer.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// A pipe or a device, read until a deadline; at a terminal there is a person, who can interrupt.
struct Patient {
    file: File,
    until: Option<Mono>,
}

impl Patient {
    fn new(file: File) -> Self {
        let until = (!file.is_terminal()).then(|| Clock::new().now().mono.plus(PATIENCE));
        Self { file, until }
    }

    /// Waits until there is something to read, or nobody who could write.
    fn wait(&self) -> io::Result<()> {
        let timeout = match self.until.map(|until| until.since(Clock::new().now().mono)) {
            None => PollTimeout::NONE,
            Some(left) if left.is_zero() => return Err(silent()),
            Some(left) => PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)], timeout)? {
            0 => Err(silent()),
            _ => Ok(()),
        }
    }
}

impl Read for Patient {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait()?;
            match self.file.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("nothing came within {} s", PATIENCE.as_secs()))
}

fn read_open(path: &Path, file: File, cap: usize) -> Result<Vec<u8>, FileError> {
    let limit = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    let metadata = file.metadata().map_err(at(path))?;
    if metadata.is_file() && metadata.len() > cap as u64 {
        return Err(FileError::TooLarge { path: path.to_owned(), cap });
    }
    let known = metadata.len().saturating_add(1).min(limit);
    // One allocation for a regular file, so that a secret leaves no copies behind.
    let mut bytes = Vec::with_capacity(usize::try_from(known).unwrap_or(0));
    if metadata.is_file() || metadata.is_dir() {
        file.take(limit).read_to_end(&mut bytes)
    } else {
        Patient::new(file).take(limit).read_to_end(&mut bytes)
    }
    .map_err(at(path))?;
    if bytes.len() > cap {
        return Err(FileError::TooLarge { path: path.to_owned(), cap });
    }
    Ok(bytes)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FileError + '_ {
    move |source| FileError::Io { path: path.to_owned(), source }
}

fn io_reason(error: &io::Error) -> Reason {
    if error.kind() == io::ErrorKind::AlreadyExists {
        return Reason::ResourceExists;
    }
    if error.kind() == io::ErrorKind::TimedOut {
        return Reason::RequestTimeout;
    }
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EDQUOT) => Reason::StateNoSpace,
        Some(Errno::EROFS | Errno::EACCES | Errno::EPERM) => Reason::StateReadOnly,
        _ => Reason::StateIo,
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0);
/// How long a pipe may keep its reader waiting.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
