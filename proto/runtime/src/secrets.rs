//! Secrets: values that print nothing, compare in constant time and are wiped.
//!
//! Owns where a configured secret comes from. Refuses to own what it opens (sealing, key files).

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use rap_types::Reason;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::files::{self, FileError};

/// Bytes that are wiped when dropped and never printed.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why a secret could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// None of the three sources has it.
    #[error("{name} is not set: give {name}_FILE, a systemd credential {name}, or {name}")]
    Missing {
        /// Name of the secret.
        name: String,
    },
    /// A source has it, with no bytes in it.
    #[error("{name} is empty")]
    Empty {
        /// Name of the secret.
        name: String,
    },
    /// The file could not be used.
    #[error("{name}: {source}")]
    File {
        /// Name of the secret.
        name: String,
        /// What was wrong with the file.
        source: FileError,
    },
}

impl SecretError {
    /// Stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Missing { .. } | Self::Empty { .. } => Reason::SecretMissing,
            Self::File { source, .. } if source.is_not_found() => Reason::SecretMissing,
            Self::File { source, .. } => source.reason(),
        }
    }
}

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes. The caller must not print them nor keep a copy.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The text, if the bytes are UTF-8.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Loads the secret called `name` (for example `SECRET_ENCRYPTION_KEY_B64`): the file named by
    /// `NAME_FILE`, else the systemd credential `name`, else the variable `NAME`. The first source
    /// that is present decides, even if it turns out to be unusable. One final newline is dropped.
    pub fn load(name: &str) -> Result<Self, SecretError> {
        Self::load_optional(name)?.ok_or_else(|| SecretError::Missing { name: name.to_owned() })
    }

    /// As [`Self::load`]; `None` if no source has it.
    pub fn load_optional(name: &str) -> Result<Option<Self>, SecretError> {
        Self::load_from(name, &|variable| std::env::var_os(variable))
    }

    /// The file of the systemd credential `name`, if this process was given one.
    pub fn credential(name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name);
        path.exists().then_some(path)
    }

    /// Loads a secret from a file that nobody else may read.
    pub fn read(name: &str, path: &Path) -> Result<Self, SecretError> {
        let bytes = files::read_secret(path, MAX_SECRET)
            .map_err(|source| SecretError::File { name: name.to_owned(), source })?;
        Self::trimmed(name, bytes)
    }

    fn load_from(
        name: &str,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Option<Self>, SecretError> {
        if let Some(path) = variable(&format!("{name}_FILE")) {
            return Self::read(name, Path::new(&path)).map(Some);
        }
        if let Some(directory) = variable("CREDENTIALS_DIRECTORY") {
            let path = PathBuf::from(directory).join(name);
            match Self::read(name, &path) {
                Err(SecretError::File { source, .. }) if source.is_not_found() => {}
                found => return found.map(Some),
            }
        }
        let Some(value) = variable(name) else { return Ok(None) };
        Self::trimmed(name, value.into_encoded_bytes()).map(Some)
    }

    fn trimmed(name: &str, bytes: Vec<u8>) -> Result<Self, SecretError> {
        let mut secret = Self::new(bytes);
        if secret.0.last() == Some(&b'\n') {
            secret.0.pop();
        }
        if secret.0.last() == Some(&b'\r') {
            secret.0.pop();
        }
        if secret.0.is_empty() {
            return Err(SecretError::Empty { name: name.to_owned() });
        }
        Ok(secret)
    }
}

impl PartialEq for Secret {
    /// Takes the same time for every value of one length.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for Secret {}

rap_types::debug_as!(Secret, "Secret");

impl fmt::Display for Secret {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl From<&mut Vec<u8>> for Secret {
    /// Copies the bytes and wipes the source.
    fn from(bytes: &mut Vec<u8>) -> Self {
        let secret = Self::new(bytes.clone());
        bytes.zeroize();
        secret
    }
}

/// Most bytes a configured secret may have.
const MAX_SECRET: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn load(variables: &[(&str, &Path)]) -> Result<Option<Secret>, SecretError> {
        let variables: BTreeMap<String, OsString> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_os_str().to_owned()))
            .collect();
        Secret::load_from("K", &|name| variables.get(name).cloned())
    }

    fn file(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        files::write_atomic(&path, text.as_bytes(), mode).unwrap();
        path
    }

    #[test]
    fn nothing_prints_a_secret() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret} {secret:?} {secret:#?}"), " Secret Secret");
    }

    #[test]
    fn file_goes_before_credential_goes_before_variable() {
        let dir = tempfile::tempdir().unwrap();
        let named = file(dir.path(), "named", "from file\n", 0o600);
        file(dir.path(), "K", "from credential\r\n", 0o400);
        let variable = ("K", Path::new("from variable"));
        let credentials = ("CREDENTIALS_DIRECTORY", dir.path());
        let all = load(&[("K_FILE", &named), credentials, variable]).unwrap().unwrap();
        assert_eq!(all.expose(), b"from file");
        let two = load(&[credentials, variable]).unwrap().unwrap();
        assert_eq!(two.expose_text(), Some("from credential"));
        assert_eq!(load(&[variable]).unwrap().unwrap().expose(), b"from variable");
        assert_eq!(load(&[]).unwrap(), None);
    }

    #[test]
    fn credential_directory_without_it_falls_through_but_an_unusable_file_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let variable = ("K", Path::new("v"));
        assert!(load(&[("CREDENTIALS_DIRECTORY", dir.path()), variable]).unwrap().is_some());
        let gone = dir.path().join("gone");
        assert_eq!(load(&[("K_FILE", &gone), variable]).unwrap_err().reason(), Reason::SecretMissing);
        let open = file(dir.path(), "open", "s", 0o644);
        assert_eq!(load(&[("K_FILE", &open), variable]).unwrap_err().reason(), Reason::SecretExposed);
    }

    #[test]
    fn empty_secret_is_refused() {
        assert_eq!(load(&[("K", Path::new("\n"))]).unwrap_err().reason(), Reason::SecretMissing);
    }

    #[test]
    fn equality_sees_every_byte_and_the_length() {
        let secret = |bytes: &[u8]| Secret::new(bytes.to_vec());
        assert_eq!(secret(b"abc"), secret(b"abc"));
        assert_ne!(secret(b"abc"), secret(b"abd"));
        assert_ne!(secret(b"abc"), secret(b"ab"));
    }
}
