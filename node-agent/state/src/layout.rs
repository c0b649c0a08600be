//! Where one membership keeps its files, and the lock that keeps a second agent out.
//!
//! ```text
//! <data>/<membership>/            0700
//!     lock                        flock of the agent that uses the membership
//!     identity.json  .twin        who this host is in the cluster (crate::identity)
//!     credentials-<n>.json .twin  private keys, named by identity.json's credential_ref
//!     floors.json    .twin        what must never go down (crate::floors)
//!     cache/                      what can be fetched again (crate::cache)
//!     quarantine-1/               the last cache that was found damaged
//! ```
//! Refuses to own what is in the files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use rap_runtime::files::{FileError, create_private_dir, gone};

use crate::error::StateError;

/// Name of a membership on this host: a directory name, 1 to 32 of `a-z 0-9 -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct MembershipName(String);

impl MembershipName {
    /// Checks the alphabet and length.
    pub fn new(text: &str) -> Result<Self, StateError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = (1..=32).contains(&text.len())
            && text.bytes().all(|byte| plain(byte) || byte == b'-')
            && text.bytes().next().is_some_and(plain);
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(StateError::MembershipName(text.chars().take(64).collect()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for MembershipName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for MembershipName {
    type Err = StateError;
    fn from_str(text: &str) -> Result<Self, StateError> {
        Self::new(text)
    }
}

impl<'de> serde::Deserialize<'de> for MembershipName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// The locked directory of one membership. Clones share the lock; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct MembershipDir(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: MembershipName,
    path: PathBuf,
    cache_open: AtomicBool,
    _lock: Flock<File>,
}

impl MembershipDir {
    /// Takes the directory of `name` under `data`, made if absent, and locks it. Fails with
    /// `state.locked` at once if another process (or another value in this one) has it.
    pub fn open(data: &Path, name: &MembershipName) -> Result<Self, StateError> {
        let path = data.join(name.as_str());
        match create_private_dir(&path) {
            // A directory that exists on a disk that turned read-only is still good for reading.
            Err(error) if error.reason() == rap_types::Reason::StateReadOnly && path.is_dir() => {}
            made => made?,
        }
        let lock = lock(&path.join("lock"))?;
        let inner = Inner { name: name.clone(), path, cache_open: AtomicBool::new(false), _lock: lock };
        Ok(Self(Arc::new(inner)))
    }

    /// Names of the memberships under `data`, sorted. An absent `data` has none.
    pub fn list(data: &Path) -> Result<Vec<MembershipName>, StateError> {
        let at = |source| FileError::Io { path: data.to_owned(), source };
        let entries = match std::fs::read_dir(data) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(at)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(at)?;
            let name = entry.file_name().to_str().and_then(|name| MembershipName::new(name).ok());
            if let Some(name) = name.filter(|_| holds_records(&entry.path())) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Name of the membership.
    pub fn name(&self) -> &MembershipName {
        &self.0.name
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// A file or directory in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path.join(name)
    }

    /// Removes the membership with its keys. Its name is free at once, also after a crash half-way.
    pub fn destroy(self) -> Result<(), StateError> {
        let path = &self.0.path;
        // A leading dot is no membership name, so a half-removed directory is never opened as one.
        let removed = path.with_file_name(format!(".removed-{}", self.0.name));
        let at = |source| FileError::Io { path: path.clone(), source };
        gone(std::fs::remove_dir_all(&removed)).map_err(at)?;
        std::fs::rename(path, &removed).map_err(at)?;
        // An agent that starts clears what is left under such a name.
        Ok(gone(std::fs::remove_dir_all(&removed)).map_err(at)?)
    }

    /// Claims the cache for one owner; `false` if it has one.
    pub(crate) fn claim_cache(&self) -> bool {
        !self.0.cache_open.swap(true, Ordering::AcqRel)
    }

    /// Ends a claim.
    pub(crate) fn release_cache(&self) {
        self.0.cache_open.store(false, Ordering::Release);
    }
}

fn lock(path: &Path) -> Result<Flock<File>, StateError> {
    let at = |source| FileError::Io { path: path.to_owned(), source };
    let file = match open_lock(path, true) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => open_lock(path, false),
        file => file,
    };
    let mut file = match Flock::lock(file.map_err(at)?, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            // The pid is for the message only; a lock file without one still locks.
            let _ = (&mut file).take(16).read_to_string(&mut text);
            return Err(StateError::Locked { path: path.to_owned(), lock_owner: text.trim().parse().ok() });
        }
        Err((_, errno)) => return Err(at(errno.into()).into()),
    };
    // Likewise: a full or read-only disk must not keep the agent from starting.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn open_lock(path: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(write)
        .create(write)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
}

/// Whether a folder is that of a membership: it has the membership's lock or a record. A folder of sockets, of other locks
/// or of folders is none.
fn holds_records(folder: &Path) -> bool {
    let is_ours = |entry: std::fs::DirEntry| {
        entry.file_name() == "lock" || entry.path().extension().is_some_and(|kind| kind == "json")
    };
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn name(text: &str) -> MembershipName {
        MembershipName::new(text).unwrap()
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", "-a", "A", ".removed-a", "a b", &"a".repeat(33)] {
            assert_eq!(MembershipName::new(bad).unwrap_err().code(), "config.invalid", "{bad}");
        }
        assert_eq!(name("office-2").as_str(), "office-2");
    }

    #[test]
    fn a_folder_without_records_is_no_membership() {
        let data = tempfile::tempdir().unwrap();
        for folder in ["run/default", "empty", "office"] {
            std::fs::create_dir_all(data.path().join(folder)).unwrap();
        }
        std::fs::write(data.path().join("run/default/dataplane.lock"), "1").unwrap();
        std::fs::write(data.path().join("run/agent.lock"), "1").unwrap();
        std::fs::write(data.path().join("office/place.json"), "{}").unwrap();
        assert_eq!(MembershipDir::list(data.path()).unwrap(), [name("office")]);
    }

    #[test]
    fn second_holder_is_refused_with_the_pid_until_the_first_lets_go() {
        let data = tempfile::tempdir().unwrap();
        let first = MembershipDir::open(data.path(), &name("a")).unwrap();
        let shared = first.clone();
        drop(first);
        let error = MembershipDir::open(data.path(), &name("a")).unwrap_err();
        assert_eq!(error.code(), "state.locked");
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        MembershipDir::open(data.path(), &name("b")).unwrap();
        drop(shared);
        MembershipDir::open(data.path(), &name("a")).unwrap();
    }

    #[test]
    fn directory_and_lock_are_private() {
        let data = tempfile::tempdir().unwrap();
        let dir = MembershipDir::open(data.path(), &name("a")).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(dir.path()), 0o700);
        assert_eq!(mode(&dir.join("lock")), 0o600);
    }

    #[test]
    fn destroyed_membership_is_gone_and_a_half_removed_one_is_not_listed() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(data.path().join(".removed-a/cache")).unwrap();
        MembershipDir::open(data.path(), &name("a")).unwrap().destroy().unwrap();
        MembershipDir::open(data.path(), &name("b")).unwrap();
        assert_eq!(MembershipDir::list(data.path()).unwrap(), [name("b")]);
        assert_eq!(MembershipDir::list(&data.path().join("none")).unwrap(), []);
    }
}
