//! Directories beside the memberships, under names that no membership has: `.rejoin/NAME`, where a return
//! is made, and `.left-NAME` and `.removed-NAME`, which are on their way out.
//!
//! Owns their names and that no keys stay in them. Refuses to decide who goes.

use std::io;
use std::path::{Path, PathBuf};

use rap_runtime::Fault;
use rap_runtime::files::gone;
use rap_types::Reason;

/// Where memberships that return are made, each under its name.
pub fn staging(data: &Path) -> PathBuf {
    data.join(".rejoin")
}

/// Takes the membership at `path` out of the way in one step, so that no start finds half of it; keys go
/// first. Blocks.
///
/// # Errors
/// `state.io`.
pub fn remove(data: &Path, path: &Path, name: &str) -> Result<(), Fault> {
    let aside: PathBuf = data.join(format!("{LEFT}{name}"));
    // Of a removal that was cut off.
    clear(&aside).map_err(at(path))?;
    std::fs::rename(path, &aside).map_err(at(path))?;
    std::fs::File::open(data).and_then(|data| data.sync_all()).map_err(at(path))?;
    clear(&aside).map_err(at(path))
}

/// Removes the return of `name` that was begun, if any. Blocks.
///
/// # Errors
/// `state.io`.
pub fn discard(data: &Path, name: &str) -> Result<(), Fault> {
    let root = staging(data);
    let path = root.join(name);
    if path.exists() {
        let aside = root.join(format!("{REMOVED}{name}"));
        clear(&aside).map_err(at(&path))?;
        std::fs::rename(&path, &aside).map_err(at(&path))?;
        clear(&aside).map_err(at(&path))?;
    }
    // Another membership may be returning.
    let _ = std::fs::remove_dir(root);
    Ok(())
}

/// Ends the removals that were cut off. What a return still needs stays. Blocks.
///
/// # Errors
/// `state.io`.
pub fn sweep(data: &Path) -> Result<(), Fault> {
    for root in [data.to_owned(), staging(data)] {
        for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let going = name.to_str().is_some_and(|name| [LEFT, REMOVED].iter().any(|p| name.starts_with(p)));
            if going && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                clear(&entry.path()).map_err(at(&entry.path()))?;
            }
        }
    }
    let _ = std::fs::remove_dir(staging(data));
    Ok(())
}

/// Keys first. Somebody else may be at it, too.
fn clear(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let file = file.to_string_lossy();
        if ["credentials-", "certificate", "keys."].iter().any(|secret| file.starts_with(secret)) {
            gone(std::fs::remove_file(entry.path()))?;
        }
    }
    gone(std::fs::remove_dir_all(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> Fault + '_ {
    move |error| Fault::new(Reason::StateIo, format!("{}: {error}", path.display()))
}

/// No membership name has a dot.
const LEFT: &str = ".left-";
const REMOVED: &str = ".removed-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_that_was_cut_off_is_ended_and_a_return_that_was_begun_stays() {
        let data = tempfile::tempdir().unwrap();
        let made = |path: &str| {
            std::fs::create_dir_all(data.path().join(path).join("cache")).unwrap();
            std::fs::write(data.path().join(path).join("credentials-1.json"), "key").unwrap();
        };
        for path in ["a", ".left-a", ".removed-b", ".rejoin/.removed-a", ".rejoin/a"] {
            made(path);
        }
        sweep(data.path()).unwrap();
        for (path, stays) in
            [("a", true), (".left-a", false), (".removed-b", false), (".rejoin/.removed-a", false)]
        {
            assert_eq!(data.path().join(path).exists(), stays, "{path}");
        }
        assert!(data.path().join(".rejoin/a/credentials-1.json").exists());
        // Over what an earlier removal left.
        made(".left-a");
        remove(data.path(), &data.path().join("a"), "a").unwrap();
        made(".rejoin/.removed-a");
        discard(data.path(), "a").unwrap();
        discard(data.path(), "a").unwrap();
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
        sweep(&data.path().join("none")).unwrap();
    }
}
