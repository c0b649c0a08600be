//! Files that operators name: read with a cap, written whole or not at all.

use std::fmt::Display;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rap_contract::{KeySet, PublicKeyFile, Reject};
use rap_runtime::exit::Fault;
use rap_runtime::files::{FileError, read_capped};
use rap_types::Reason;
use rap_wire::v1;

/// Reads a file of at most `cap` bytes, or standard input for `-`.
pub(crate) fn read(path: &Path, cap: usize) -> anyhow::Result<Vec<u8>> {
    let too_large = || Fault::new(Reason::RequestTooLarge, format!("{}: too large", path.display()));
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        let limit = cap as u64 + 1;
        let read = std::io::stdin().lock().take(limit).read_to_end(&mut bytes);
        read.map_err(|error| Fault::new(Reason::StateIo, format!("standard input: {error}")))?;
        return if bytes.len() > cap { Err(too_large().into()) } else { Ok(bytes) };
    }
    Ok(read_capped(path, cap).map_err(|error| match &error {
        FileError::TooLarge { .. } => too_large(),
        error if error.is_not_found() => Fault::new(Reason::ResourceNotFound, error.to_string()),
        error if error.reason() == Reason::RequestTimeout => Fault::new(error.reason(), error.to_string()),
        error => Fault::new(Reason::StateIo, error.to_string()),
    })?)
}

/// Reads a text file.
pub(crate) fn read_text(path: &Path, cap: usize) -> anyhow::Result<String> {
    String::from_utf8(read(path, cap)?)
        .map_err(|_| Fault::new(Reason::RequestInvalid, format!("{}: not text", path.display())).into())
}

/// Reads a text file that others may not read or write, or standard input for `-`.
///
/// # Errors
/// `secret.exposed`; those of [`read_text`].
pub(crate) fn read_secret_text(path: &Path, cap: usize) -> anyhow::Result<String> {
    let metadata = if path == Path::new("-") { None } else { std::fs::metadata(path).ok() };
    // A pipe of a shell is its user's; what is in a file may have been read by others for long.
    let mode =
        metadata.filter(std::fs::Metadata::is_file).map_or(0, |file| file.permissions().mode() & 0o777);
    if mode & 0o027 != 0 {
        let text = format!("{}: mode {mode:03o} lets others read it; chmod 600", path.display());
        return Err(Fault::new(Reason::SecretExposed, text).into());
    }
    read_text(path, cap)
}

/// The Product Root's public keys in a file.
pub(crate) fn roots(path: &Path, cap: usize) -> anyhow::Result<KeySet> {
    let file = PublicKeyFile::parse(&read_text(path, cap)?);
    let keys = file.and_then(|file| file.key_set::<v1::ActivationManifest>());
    Ok(keys.map_err(|reject| refused(path.display(), reject))?)
}

/// The fault of something signed that was rejected.
pub(crate) fn refused(what: impl Display, reject: Reject) -> Fault {
    let why = match reject.reason {
        Reason::AuthorityDevRefused => "signed by a development installation; --dev accepts it",
        _ => reject.what,
    };
    Fault::new(reject.reason, format!("{what}: {why}"))
}

/// The fault of a file whose content was rejected.
pub(crate) fn rejected(path: &Path, reject: Reject) -> Fault {
    Fault::new(reject.reason, format!("{}: {}", path.display(), reject.what))
}

/// Refuses a path that exists, before the work whose result it is to hold.
///
/// # Errors
/// `resource.exists`.
pub(crate) fn absent(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Err(Fault::new(Reason::ResourceExists, format!("{}: exists already", path.display())).into());
    }
    Ok(())
}

/// A path as JSON and people see it; bytes that are no text are replaced.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A new file, empty until it is filled. Made before an act whose result it is to hold: what was signed and recorded is
/// not lost because its file cannot be made. Removed again unless it was filled.
pub(crate) struct Reserved {
    path: PathBuf,
    mode: u32,
    filled: bool,
}

impl Reserved {
    /// Makes the file with these permission bits.
    ///
    /// # Errors
    /// `resource.exists`; `state.io` and others of writing.
    pub(crate) fn new(path: &Path, mode: u32) -> anyhow::Result<Self> {
        create_new(path, &[], mode)?;
        Ok(Self { path: path.to_owned(), mode, filled: false })
    }

    /// Writes what it is to hold, whole.
    pub(crate) fn fill(mut self, bytes: &[u8]) -> anyhow::Result<()> {
        rap_runtime::files::write_atomic(&self.path, bytes, self.mode)?;
        self.filled = true;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.filled {
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

/// Creates a file that must not exist yet.
pub(crate) fn create_new(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    Ok(rap_runtime::files::create_new(path, bytes, mode)?)
}

/// Writes a file that anybody may read; only `force` replaces one.
pub(crate) fn write(path: &Path, bytes: &[u8], force: bool) -> anyhow::Result<()> {
    if !force {
        return create_new(path, bytes, 0o644);
    }
    Ok(rap_runtime::files::write_atomic(path, bytes, 0o644)?)
}
