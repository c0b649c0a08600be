//! Who may reach the files of a membership, looked at before any of them is read.
//!
//! What others can read or write is closed and told. It stops the membership if closing is too late: a private key of
//! the identity may be known to others, and what another user owns, or a link in the place of a file, may say anything.
//!
//! Owns the rules. Refuses to own what becomes of a file that was closed: its owner knows what it holds.

use std::fs::{DirEntry, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rap_runtime::files::FileError;

use crate::error::StateError;
use crate::layout::MembershipDir;

/// A file or directory that was open to others and is closed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Which.
    pub path: PathBuf,
    /// Permission bits of the file before it was closed.
    pub mode: u32,
}

/// Looks at the directory of a membership, what is in it, and the directory above it. Blocks.
///
/// # Errors
/// `secret.exposed` for a file with an identity key that others can reach, and for a directory above it in which
/// everybody may write; `state.corrupt` for another user's file and for a link in the place of one.
pub fn inspect(dir: &MembershipDir) -> Result<Vec<Closed>, StateError> {
    let path = dir.path();
    if let Some(data) = path.parent().filter(|data| !data.as_os_str().is_empty()) {
        let metadata = std::fs::metadata(data).map_err(at(data))?;
        owned(data, &metadata)?;
        let mode = metadata.permissions().mode() & 0o7777;
        // In a directory with the sticky bit nobody can replace what another user has.
        if mode & 0o002 != 0 && mode & 0o1000 == 0 {
            return Err(StateError::Exposed { path: data.to_owned(), mode });
        }
    }
    let mut closed = Vec::new();
    look(path, &std::fs::symlink_metadata(path).map_err(at(path))?, &mut closed)?;
    let entries = std::fs::read_dir(path).map_err(at(path))?;
    let mut entries: Vec<DirEntry> = entries.collect::<Result<_, _>>().map_err(at(path))?;
    entries.sort_by_key(DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) => look(&path, &metadata, &mut closed)?,
            // What another task of this agent writes comes and goes.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&path)(error).into()),
        }
    }
    Ok(closed)
}

fn look(path: &Path, metadata: &Metadata, closed: &mut Vec<Closed>) -> Result<(), StateError> {
    if metadata.is_symlink() {
        let why = "a link in the place of a file".to_owned();
        return Err(StateError::Corrupt { path: path.to_owned(), why });
    }
    owned(path, metadata)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if KEYS.iter().any(|keys| name.starts_with(keys)) {
        return Err(StateError::Exposed { path: path.to_owned(), mode });
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode & 0o700)).map_err(at(path))?;
    closed.push(Closed { path: path.to_owned(), mode });
    Ok(())
}

/// Root may do anything anyway.
fn owned(path: &Path, metadata: &Metadata) -> Result<(), StateError> {
    let own = nix::unistd::geteuid().as_raw();
    if metadata.uid() == own || metadata.uid() == 0 {
        return Ok(());
    }
    let why = format!("it belongs to user {}, not to user {own} of this agent", metadata.uid());
    Err(StateError::Corrupt { path: path.to_owned(), why })
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> FileError + '_ {
    |source| FileError::Io { path: path.to_owned(), source }
}

/// Files with identity keys: those in use, and those that are about to be.
const KEYS: [&str; 2] = ["credentials-", "keys.json"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::MembershipName;

    fn membership(data: &Path) -> MembershipDir {
        let dir = MembershipDir::open(data, &MembershipName::new("m").unwrap()).unwrap();
        for name in
            ["identity.json", "floors.json", "certificate.json", "credentials-1.json", "keys.json.twin"]
        {
            std::fs::write(dir.join(name), b"x").unwrap();
            chmod(&dir.join(name), 0o600);
        }
        dir
    }

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_open_is_closed_and_told_and_an_open_key_stops() {
        let data = tempfile::tempdir().unwrap();
        let dir = membership(data.path());
        assert_eq!(inspect(&dir).unwrap(), []);
        let leaf = dir.join("certificate.json");
        chmod(&leaf, 0o666);
        chmod(&dir.join("floors.json"), 0o640);
        chmod(dir.path(), 0o755);
        let names = |closed: Vec<Closed>| closed.into_iter().map(|closed| closed.mode).collect::<Vec<_>>();
        assert_eq!(names(inspect(&dir).unwrap()), [0o755, 0o666, 0o640]);
        assert_eq!((mode(&leaf), mode(&dir.join("floors.json")), mode(dir.path())), (0o600, 0o600, 0o700));
        assert_eq!(inspect(&dir).unwrap(), [], "once");
        for name in ["credentials-1.json", "keys.json.twin"] {
            chmod(&dir.join(name), 0o604);
            assert_eq!(inspect(&dir).unwrap_err().code(), "secret.exposed", "{name}");
            assert_eq!(mode(&dir.join(name)), 0o604, "it is left for a person to look at");
            chmod(&dir.join(name), 0o600);
        }
    }

    #[test]
    fn links_other_owners_and_a_data_directory_for_everybody_stop() {
        let data = tempfile::tempdir().unwrap();
        let dir = membership(data.path());
        std::fs::rename(dir.join("floors.json"), data.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(data.path().join("elsewhere"), dir.join("floors.json")).unwrap();
        let error = inspect(&dir).unwrap_err();
        assert_eq!(error.code(), "state.corrupt");
        assert!(error.to_string().contains("floors.json") && error.to_string().contains("link"), "{error}");
        std::fs::remove_file(dir.join("floors.json")).unwrap();
        for (mode, stops) in [(0o777, true), (0o757, true), (0o1777, false), (0o755, false)] {
            chmod(data.path(), mode);
            assert_eq!(
                inspect(&dir).err().map(|error| error.code()),
                stops.then_some("secret.exposed"),
                "{mode:o}"
            );
        }
        if nix::unistd::geteuid().is_root() {
            let other = Some(nix::unistd::Uid::from_raw(4711));
            nix::unistd::chown(&dir.join("credentials-1.json"), other, None).unwrap();
            let error = inspect(&dir).unwrap_err();
            assert_eq!(error.code(), "state.corrupt");
            assert!(error.to_string().contains("4711"), "{error}");
        }
    }
}
