//! What an administrator of the host lets the overlay use, as far as it is configured.

use std::path::PathBuf;

use ipnet::IpNet;

use super::Raw;

/// Where the bounds of data planes are, and what join writes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBounds {
    /// Folder of the files.
    pub folder: PathBuf,
    /// Prefixes in which routes of the host do not hold the overlay back.
    pub allowed: Vec<IpNet>,
}

impl Default for HostBounds {
    fn default() -> Self {
        Self { folder: FOLDER.into(), allowed: Vec::new() }
    }
}

impl HostBounds {
    /// Reads the options; an error names the first prefix that is none.
    pub(super) fn read(raw: &Raw) -> Result<Self, String> {
        let folder = raw.bounds_dir.clone().unwrap_or_else(|| FOLDER.into());
        let read = |text: &String| text.parse().map_err(|_| format!("{text:?} is no prefix"));
        let allowed = raw.allow_overlap.iter().flatten().map(read).collect::<Result<_, _>>()?;
        Ok(Self { folder, allowed })
    }
}

const FOLDER: &str = "/etc/rap/dataplane";
