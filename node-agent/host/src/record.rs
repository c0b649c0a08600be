//! What outlives a data plane on the host, written down beside its socket: the unreachable prefixes and the name of the
//! interface. Kept where a boot removes it, as the kernel's state.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use ipnet::IpNet;
use rap_runtime::files::{self, FileError};

use crate::{nft, requests};

/// What was put on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) interface: String,
    pub(crate) prefixes: BTreeSet<IpNet>,
}

impl Record {
    /// Reads it; empty if there is none. A line that is none of ours is left out.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let bytes = match files::read_capped(path, FILE_CAP) {
            Err(error) if error.is_not_found() => return Ok(Self::default()),
            read => read?,
        };
        let mut record = Self::default();
        for line in String::from_utf8_lossy(&bytes).lines() {
            match line.split_once(' ') {
                Some(("interface", name)) => name.clone_into(&mut record.interface),
                Some(("prefix", prefix)) => record.prefixes.extend(prefix.parse::<IpNet>()),
                _ => {}
            }
        }
        Ok(record)
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), FileError> {
        let prefixes = self.prefixes.iter().map(|prefix| format!("prefix {prefix}\n"));
        let text = format!("interface {}\n{}", self.interface, prefixes.collect::<String>());
        files::write_atomic(path, text.as_bytes(), 0o600)
    }
}

/// The prefixes that a record names.
///
/// # Errors
/// The file cannot be read. One that is not there names none.
pub fn prefixes_of(path: &Path) -> Result<BTreeSet<IpNet>, FileError> {
    Record::read(path).map(|record| record.prefixes)
}

/// Removes from the host what a record names, but for prefixes that share an address with `others`, and then the
/// record. Returns what was removed. What is not there any more is no error.
///
/// # Errors
/// What the kernel, `nft` or the disk says; the record stays then.
pub async fn clear(path: &Path, others: &[IpNet]) -> io::Result<Vec<IpNet>> {
    let record = Record::read(path).map_err(io::Error::other)?;
    let is_free = |prefix: &&IpNet| !others.iter().any(|other| rap_hostnet::share(prefix, other));
    let mut removed = Vec::new();
    for prefix in record.prefixes.iter().filter(is_free) {
        match requests::remove_unreachable(*prefix).await {
            Ok(()) => removed.push(*prefix),
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
            Err(error) => return Err(error),
        }
    }
    if !record.interface.is_empty() {
        match nft::remove(&nft::table(&record.interface)).await {
            // Without the program there are no rules of it.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(removed),
    }
}

const FILE_CAP: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_none_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host");
        assert_eq!(Record::read(&path).unwrap(), Record::default());
        let prefixes = ["100.96.0.0/16", "fd00::/48"].map(|text| text.parse().unwrap()).into();
        let record = Record { interface: "rap0".to_owned(), prefixes };
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), record);
        std::fs::write(&path, "prefix 100.96.0.0/16\nprefix x\nnonsense\n").unwrap();
        assert_eq!(prefixes_of(&path).unwrap().len(), 1);
    }
}
