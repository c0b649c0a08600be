//! sled behind a guard: a call ends in a value, in a fault of the disk, or in damage. Never in a panic.
//!
//! Refuses to decide what follows from a fault.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rap_types::{ClusterId, Reason};

use super::frame;
use super::terms::{Failure, Tree};
use crate::space;

/// An open database.
pub(crate) struct Database {
    pub(crate) number: u64,
    pub(crate) sled: sled::Db,
    pub(crate) trees: BTreeMap<Tree, sled::Tree>,
}

/// What a sled call ended in.
pub(crate) enum Fault {
    /// The disk or the system.
    Disk(Failure),
    /// sled or its files.
    Damage(String),
}

impl Database {
    /// One tree.
    pub(crate) fn tree(&self, tree: Tree) -> sled::Result<&sled::Tree> {
        self.trees.get(&tree).ok_or_else(|| sled::Error::CollectionNotFound(tree.as_str().into()))
    }

    /// Bytes of all intact values, and how many others were removed.
    pub(crate) fn check(&self, cluster: ClusterId) -> sled::Result<(u64, u64)> {
        let (mut bytes, mut dropped) = (0, 0);
        for (tree, values) in &self.trees {
            for entry in values.iter() {
                let (key, value) = entry?;
                if frame::open(cluster, *tree, &key, &value).is_some() {
                    bytes += (key.len() + value.len()) as u64;
                } else {
                    values.remove(&key)?;
                    dropped += 1;
                }
            }
        }
        Ok((bytes, dropped))
    }
}

/// Opens or makes the database in `path` with all its trees.
pub(crate) fn open_sled(path: &Path, number: u64, memory: u64) -> sled::Result<Database> {
    let sled = sled::Config::new()
        .path(path)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(memory)
        // The owner flushes; a thread of sled's own would write when nobody expects it.
        .flush_every_ms(None)
        .open()?;
    let trees = Tree::ALL.iter().map(|tree| Ok((*tree, sled.open_tree(tree.as_str())?)));
    let trees = trees.collect::<sled::Result<_>>()?;
    Ok(Database { number, sled, trees })
}

/// Runs a use of sled; what it throws or returns is sorted.
pub(crate) fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if error.to_string().starts_with(SLED_LOCKED) => {
            Err(Fault::Disk(Failure { reason: Reason::StateLocked, text: error.to_string() }))
        }
        Ok(Err(sled::Error::Io(error))) if is_of_the_disk(&error) => {
            Err(Fault::Disk(Failure { reason: space::io_reason(&error), text: error.to_string() }))
        }
        Ok(Err(error)) => Err(Fault::Damage(error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<&'static str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(Fault::Damage(format!("panic: {}", text.unwrap_or_default())))
        }
    }
}

/// sled wraps its own findings (bad lengths, short reads, bad text) as I/O errors too.
fn is_of_the_disk(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, Other, UnexpectedEof};
    !matches!(error.kind(), InvalidData | InvalidInput | NotFound | Other | UnexpectedEof)
}

/// How sled's error begins when another open database holds the files: that is no damage.
const SLED_LOCKED: &str = "could not acquire lock";
