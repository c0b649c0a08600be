//! Which PostgreSQL binaries are used.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::PostgresError;

/// Oldest major version that is accepted.
pub(crate) const OLDEST_MAJOR: u32 = 15;

/// Where Debian and its descendants install one directory per major version.
const SYSTEM_ROOT: &str = "/usr/lib/postgresql";

/// One installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binaries {
    directory: PathBuf,
    major: u32,
}

impl Binaries {
    /// Takes `chosen`, or else from the system's directories the one of major version `wanted` (the
    /// version that made an existing data directory), or else the newest.
    pub fn find(chosen: Option<&Path>, wanted: Option<u32>) -> Result<Self, PostgresError> {
        let candidates = match chosen {
            Some(directory) => vec![directory.to_owned()],
            None => installed(Path::new(SYSTEM_ROOT)),
        };
        let searched =
            chosen.map_or_else(|| format!("{SYSTEM_ROOT}/*/bin"), |path| path.display().to_string());
        let mut found: Vec<Self> = candidates.into_iter().filter_map(|path| Self::inspect(&path)).collect();
        found.sort_by_key(|binaries| binaries.major);
        let exact = found.iter().find(|binaries| Some(binaries.major) == wanted);
        exact
            .or(found.last())
            .filter(|binaries| binaries.major >= OLDEST_MAJOR)
            .cloned()
            .ok_or(PostgresError::Missing { oldest: OLDEST_MAJOR, searched })
    }

    /// Major version, e.g. 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn inspect(directory: &Path) -> Option<Self> {
        if !directory.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(directory.join("postgres")).arg("--version").env_clear().output().ok()?;
        let major = major_of(std::str::from_utf8(&output.stdout).ok()?)?;
        Some(Self { directory: directory.to_owned(), major })
    }
}

fn installed(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect()
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` -> 15; also pre-releases such as `17beta1`.
fn major_of(banner: &str) -> Option<u32> {
    let version = banner.split_whitespace().nth(2)?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_the_banner() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 17beta1\n"), Some(17));
        assert_eq!(major_of("something else"), None);
    }

    #[test]
    fn a_directory_without_binaries_is_refused_by_name() {
        let empty = tempfile::tempdir().unwrap();
        let error = Binaries::find(Some(empty.path()), None).unwrap_err();
        assert_eq!(error.reason().code(), "postgres.missing");
        assert!(error.to_string().contains(empty.path().to_str().unwrap()), "{error}");
    }
}
