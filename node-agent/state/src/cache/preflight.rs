//! What a cache directory needs before sled may open it.
//!
//! ```text
//! cache/opening        number of opens that began and did not end
//! cache/db-<n>/        the database; the highest n is the present one
//! cache/building-<n>/  a database being rewritten smaller
//! ```
//! A database is never opened under a path that an earlier one had: a thread that hangs in a discarded
//! database must not write into its successor. Refuses to judge values.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rap_runtime::files::{FileError, create_private_dir, gone, read_capped, write_atomic};

use crate::error::StateError;

/// Directory of the present database under `cache`, made if there is none. Removes what interrupted
/// work left.
pub(crate) fn present(cache: &Path) -> Result<(u64, PathBuf), StateError> {
    create_private_dir(cache)?;
    let mut numbers: Vec<u64> = Vec::new();
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if let Some(number) = name.strip_prefix("db-").and_then(|number| number.parse().ok()) {
            numbers.push(number);
        } else if name.starts_with("building-") {
            remove(&entry.path());
        }
    }
    numbers.sort_unstable();
    let number = numbers.pop().unwrap_or(1);
    for old in numbers {
        remove(&path_of(cache, old));
    }
    let path = path_of(cache, number);
    create_private_dir(&path)?;
    Ok((number, path))
}

/// The highest number of a database that is there.
pub(crate) fn newest(cache: &Path) -> Option<u64> {
    let entries = fs::read_dir(cache).ok()?.flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("db-")?.parse().ok()).max()
}

/// Directory of database `number`.
pub(crate) fn path_of(cache: &Path, number: u64) -> PathBuf {
    cache.join(format!("db-{number}"))
}

/// Directory in which database `number` is built.
pub(crate) fn building(cache: &Path, number: u64) -> PathBuf {
    cache.join(format!("building-{number}"))
}

/// Copies the present database to the next number: one that failed may hold its own files until the process ends.
pub(crate) fn copy_to_next(cache: &Path) -> Result<(), StateError> {
    let (number, path) = present(cache)?;
    let building = building(cache, number + 1);
    create_private_dir(&building)?;
    let moved = copied(&path, &building).and_then(|()| fs::rename(&building, path_of(cache, number + 1)));
    moved.map_err(|source| FileError::Io { path, source })?;
    Ok(())
}

/// Copies the files and folders in `from` to the folder `to`.
pub(crate) fn copied(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copied(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Moves the cache to `quarantine`, in place of what was there, and starts an empty one under a new
/// number.
pub(crate) fn quarantine(cache: &Path, quarantine: &Path) -> Result<(), StateError> {
    let next = present(cache)?.0 + 1;
    let at = |source| FileError::Io { path: quarantine.to_owned(), source };
    gone(fs::remove_dir_all(quarantine)).map_err(at)?;
    fs::rename(cache, quarantine).map_err(at)?;
    create_private_dir(cache)?;
    create_private_dir(&path_of(cache, next))?;
    Ok(())
}

/// Counts an open that begins, and says how many before it did not end. Opens that end the process
/// (an impossible allocation, a full stack) leave their mark.
pub(crate) fn begin(cache: &Path) -> Result<u32, StateError> {
    let path = cache.join(OPENING);
    let text = read_capped(&path, 16).unwrap_or_default();
    let unfinished = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    write_atomic(&path, (unfinished + 1_u32).to_string().as_bytes(), 0o600)?;
    Ok(unfinished)
}

/// Ends what [`begin`] counted.
pub(crate) fn end(cache: &Path) {
    // If it stays, the worst outcome is one quarantine too many.
    let _ = fs::remove_file(cache.join(OPENING));
}

/// What in a database's directory cannot be of sled's making: something that is no file, or one far beyond
/// `largest`, up to which a database is kept.
pub(crate) fn foreign(database: &Path, largest: u64) -> Option<String> {
    let entries = fs::read_dir(database).into_iter().flatten().flatten();
    entries.into_iter().find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = entry.metadata().ok()?;
        let most = if name == "conf" { CONF_CAP } else { largest.saturating_mul(8) };
        if metadata.is_dir() != (name == "blobs") || !(metadata.is_dir() || metadata.is_file()) {
            return Some(format!("{name} is not of the database"));
        }
        (metadata.is_file() && metadata.len() > most).then(|| format!("{name} is too large"))
    })
}

/// Removes a half-written recovery file of sled, and moves aside a damaged one: sled takes either for
/// good and fails on it for ever, while its log alone holds all the data.
pub(crate) fn repair_recovery_files(database: &Path) {
    for entry in fs::read_dir(database).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if !name.starts_with("snap.") {
            continue;
        }
        let path = entry.path();
        let done = if name.ends_with(".generating") {
            fs::remove_file(&path)
        } else if fs::read(&path).is_ok_and(|bytes| is_whole(&bytes)) {
            Ok(())
        } else {
            tracing::warn!(file = name, "damaged recovery file of the cache moved aside");
            fs::rename(&path, database.join("aside"))
        };
        if let Err(error) = done {
            tracing::warn!(file = name, %error, "recovery file of the cache could not be repaired");
        }
    }
}

/// sled 0.34 ends a recovery file with its length (u64) and its CRC-32 (u32), little-endian.
fn is_whole(bytes: &[u8]) -> bool {
    let Some((body, tail)) = bytes.len().checked_sub(12).and_then(|length| bytes.split_at_checked(length))
    else {
        return false;
    };
    let mut expected = (body.len() as u64).to_le_bytes().to_vec();
    expected.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    !body.is_empty() && tail == expected
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "left-over of the cache could not be removed");
    }
}

const OPENING: &str = "opening";
const CONF_CAP: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_file_of_sled_is_whole_until_it_is_cut_or_flipped() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let db = sled::Config::new().path(dir.path()).flush_every_ms(None).open().unwrap();
            db.insert(b"k", b"v").unwrap();
            db.flush().unwrap();
        }
        let snap = |dir: &Path| {
            let entries = fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
            entries.filter(|path| path.to_string_lossy().contains("snap.")).collect::<Vec<_>>()
        };
        let path = snap(dir.path()).pop().expect("sled wrote a recovery file");
        let bytes = fs::read(&path).unwrap();
        assert!(is_whole(&bytes));
        for length in 0..bytes.len() {
            assert!(!is_whole(&bytes[..length]), "length {length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_whole(&bad), "bit {bit}");
        }
        repair_recovery_files(dir.path());
        assert_eq!(snap(dir.path()).len(), 1);
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        fs::write(dir.path().join("snap.0000000000000000.generating"), b"half").unwrap();
        repair_recovery_files(dir.path());
        assert_eq!(snap(dir.path()).len(), 0);
        let db = sled::Config::new().path(dir.path()).flush_every_ms(None).open().unwrap();
        assert_eq!(db.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
    }

    #[test]
    fn quarantine_keeps_one_and_the_next_database_has_another_path() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, aside) = (dir.path().join("cache"), dir.path().join("quarantine-1"));
        let (first, path) = present(&cache).unwrap();
        fs::write(path.join("old"), b"1").unwrap();
        quarantine(&cache, &aside).unwrap();
        let (second, path) = present(&cache).unwrap();
        assert_ne!(first, second);
        fs::write(path.join("newer"), b"2").unwrap();
        quarantine(&cache, &aside).unwrap();
        assert!(present(&cache).unwrap().0 > second);
        assert!(path_of(&aside, second).join("newer").exists());
        assert!(!path_of(&aside, first).exists());
    }

    #[test]
    fn unfinished_opens_are_counted_until_one_ends() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(begin(dir.path()).unwrap(), 0);
        assert_eq!(begin(dir.path()).unwrap(), 1);
        end(dir.path());
        assert_eq!(begin(dir.path()).unwrap(), 0);
    }
}
