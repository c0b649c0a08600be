//! Where a lab keeps its files. Owns the layout of the folder; what is in the files belongs to others.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The folder of one lab. Short, because Unix socket paths end at 108 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    /// Folder of the named lab; nothing is made.
    pub fn of(lab: &str) -> Result<Self> {
        crate::run_id::check_name(lab, 20)?;
        Ok(Self(base().join(lab)))
    }

    /// A folder already known by its path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Makes the folder. Others may pass through it (PostgreSQL runs under its own account) but not list it.
    pub fn make(&self) -> Result<()> {
        if let Some(base) = self.0.parent() {
            make_folder(base)?;
            let owner = fs::metadata(base).with_context(|| base.display().to_string())?.uid();
            ensure!(owner == nix::unistd::geteuid().as_raw(), "{} belongs to another user", base.display());
        }
        for folder in [
            self.0.clone(),
            self.bin(),
            self.logs(),
            self.units(),
            self.skeleton("etc"),
            self.skeleton("var-lib"),
        ] {
            make_folder(&folder)?;
        }
        make_folder(&self.skeleton("etc").join("rap"))?;
        make_folder(&self.skeleton("var-lib").join("rap"))
    }

    /// Removes the folder of all labs after the last one; a caller's own folder stays.
    pub(crate) fn remove_empty_base(&self) {
        let base = base();
        if self.0.parent() == Some(&base) {
            // Not empty while another lab is up.
            let _ = fs::remove_dir(base);
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The lab's name: the folder's own.
    pub fn lab(&self) -> &str {
        self.0.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// First folder on every host's PATH.
    pub fn bin(&self) -> PathBuf {
        self.0.join("bin")
    }

    /// One log per part.
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// Unit files, and the state of units.
    pub fn units(&self) -> PathBuf {
        self.0.join("units")
    }

    /// Files of a host: `etc`, `lib`, `run`, `home`.
    pub fn host(&self, host: &str, what: &str) -> PathBuf {
        self.0.join("hosts").join(host).join(what)
    }

    /// Lower layer that gives a system folder a mount point without touching the system.
    pub fn skeleton(&self, what: &str) -> PathBuf {
        self.0.join("skeleton").join(what)
    }

    /// The record of what was made.
    pub fn record(&self) -> PathBuf {
        self.0.join("lab.json")
    }

    /// Lock of the record.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lab.lock")
    }
}

/// Names of the labs that have a folder.
pub fn labs() -> Vec<String> {
    let entries = fs::read_dir(base()).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Makes a folder and those above it, 0711 for root and 0700 for others.
pub fn make_folder(path: &Path) -> Result<()> {
    let mode = if nix::unistd::geteuid().is_root() { 0o711 } else { 0o700 };
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).with_context(|| path.display().to_string())
}

/// Writes a file that only its owner reads.
pub fn write_secret(path: &Path, text: &[u8]) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(text));
    written.with_context(|| path.display().to_string())
}

fn base() -> PathBuf {
    match std::env::var_os("RAP_LAB_HOME") {
        Some(path) if !path.is_empty() => path.into(),
        _ => format!("/tmp/raplab-{}", nix::unistd::geteuid()).into(),
    }
}
