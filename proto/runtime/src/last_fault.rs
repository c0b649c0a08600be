//! Why a supervised program ended, left behind for whoever started it.
//!
//! Owns the file `last-fault.json` in the program's run-time folder. Refuses to keep a history: it is one fault.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::exit::Fault;
use crate::files::{FileError, gone, read_capped, write_atomic};

/// The last fault of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFault {
    schema: String,
    /// Process that wrote it.
    pub pid: u32,
    /// Stable reason code.
    pub reason: String,
    /// What happened, for a person; no secrets.
    pub text: String,
}

/// This process ends with `fault`. Readable by its user alone.
///
/// # Errors
/// The file cannot be written.
pub fn write(folder: &Path, fault: &Fault) -> Result<(), FileError> {
    let last = LastFault {
        schema: SCHEMA.to_owned(),
        pid: std::process::id(),
        reason: fault.reason.code().to_owned(),
        text: fault.message.clone(),
    };
    // Strings and a number: they always encode.
    let text = serde_json::to_vec(&last).unwrap_or_default();
    write_atomic(&folder.join(FILE), &text, 0o600)
}

/// What process `pid` left behind; `None` if it left nothing, or nothing that can be read.
pub fn read(folder: &Path, pid: u32) -> Option<LastFault> {
    let bytes = read_capped(&folder.join(FILE), CAP).ok()?;
    let last: LastFault = serde_json::from_slice(&bytes).ok()?;
    (last.pid == pid && last.schema == SCHEMA).then_some(last)
}

/// Removes what an earlier process left behind.
///
/// # Errors
/// Those of the file system; an absent file is none.
pub fn clear(folder: &Path) -> io::Result<()> {
    gone(std::fs::remove_file(folder.join(FILE)))
}

const FILE: &str = "last-fault.json";
const SCHEMA: &str = "rap.last-fault.v1";
const CAP: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rap_types::Reason;

    use super::*;

    #[test]
    fn a_fault_is_left_for_the_starter_of_this_process_alone() {
        let folder = tempfile::tempdir().unwrap();
        clear(folder.path()).unwrap();
        assert_eq!(read(folder.path(), std::process::id()), None);
        write(folder.path(), &Fault::new(Reason::DataplaneUnavailable, "no socket")).unwrap();
        let last = read(folder.path(), std::process::id()).unwrap();
        assert_eq!((last.reason.as_str(), last.text.as_str()), ("dataplane.unavailable", "no socket"));
        assert_eq!(read(folder.path(), std::process::id() + 1), None, "another process wrote it");
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(read(folder.path(), std::process::id()), None);
        clear(folder.path()).unwrap();
        assert!(!folder.path().join(FILE).exists());
    }
}
