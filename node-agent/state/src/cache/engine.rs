//! The database behind the cache, used by one thread.
//!
//! Owns sled: opening it, the frames, the size cap, and what happens when it fails. Damage (an error
//! that is not the disk's, or a panic) moves the database aside and goes on with an empty one; an I/O
//! error stops all writing. A database that cannot be opened for want of room is read from a copy in memory until there
//! is room. Refuses to own queues and deadlines.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;

use rap_types::{ClusterId, Reason};

use super::database::{Database, Fault, guarded, open_sled};
use super::memory_copy::MemoryCopy;
use super::terms::{CacheLimits, CacheStatus, Change, Failure, Tree};
use super::{frame, preflight};
use crate::error::StateError;
use crate::space;

/// Database, its size, and how it has fared.
pub(crate) struct Engine {
    cache: PathBuf,
    quarantine: PathBuf,
    cluster: ClusterId,
    limits: CacheLimits,
    database: Option<Database>,
    /// What is read meanwhile is a copy: there was no room to open the database itself.
    copy: Option<MemoryCopy>,
    status: CacheStatus,
    dirty: bool,
    /// The files of the present number may be held by a database that failed while it was used.
    held: bool,
    /// Set once a call on the database failed.
    suspect: bool,
    abandoned: Arc<AtomicBool>,
}

impl Engine {
    /// Opens the cache of a membership. Always gives an engine; [`CacheStatus::failed`] tells if it
    /// cannot work. `discard` moves an existing database aside first; `abandoned` tells that nobody waits
    /// for this engine any more.
    pub(crate) fn open(
        (cache, quarantine): (PathBuf, PathBuf),
        cluster: ClusterId,
        limits: CacheLimits,
        discard: Option<String>,
        abandoned: Arc<AtomicBool>,
    ) -> Self {
        let mut engine = Self {
            cache,
            quarantine,
            cluster,
            limits,
            database: None,
            copy: None,
            status: CacheStatus::default(),
            dirty: false,
            held: false,
            suspect: false,
            abandoned,
        };
        if let Err(error) = engine.start(discard) {
            engine.fail(Failure { reason: error.reason(), text: error.to_string() });
        }
        if engine.wants_room() && engine.database.is_none() {
            engine.read_a_copy();
        }
        engine
    }

    /// How the cache fares.
    pub(crate) fn status(&self) -> &CacheStatus {
        &self.status
    }

    /// True if something was written since the last flush.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty && self.status.failed.is_none()
    }

    /// One value. A damaged one is removed and counts as absent.
    pub(crate) fn read(&mut self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let cluster = self.cluster;
        let found = self.call(|database| database.tree(tree)?.get(key))?.flatten();
        let Some(bytes) = found else { return Ok(None) };
        let value = frame::open(cluster, tree, key, &bytes).map(<[u8]>::to_vec);
        if value.is_none() && self.status.failed.is_none() {
            self.status.dropped += 1;
            self.apply(vec![Change::Remove { tree, key: key.to_vec() }], false)?;
        }
        Ok(value)
    }

    /// Keys that start with `prefix`, in order, at most `limit`.
    pub(crate) fn keys(
        &mut self,
        tree: Tree,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, StateError> {
        let keys = self.call(|database| {
            let keys = database.tree(tree)?.scan_prefix(prefix).keys().take(limit);
            keys.map(|key| Ok(key?.to_vec())).collect()
        })?;
        Ok(keys.unwrap_or_default())
    }

    /// Applies changes in order; with `flush` they are on disk when this returns. Nothing is applied if
    /// the cap would not hold afterwards.
    pub(crate) fn apply(&mut self, changes: Vec<Change>, flush: bool) -> Result<(), StateError> {
        self.try_again();
        self.refuse_if_failed()?;
        let after = self.size_after(&changes)?;
        if after > self.limits.max_bytes && after > self.status.bytes {
            return Err(StateError::Full { what: "cache", needed: after, limit: self.limits.max_bytes });
        }
        let cluster = self.cluster;
        self.call(|database| {
            for change in &changes {
                match change {
                    Change::Put { tree, key, value } => {
                        database.tree(*tree)?.insert(key, frame::seal(cluster, *tree, key, value))?
                    }
                    Change::Remove { tree, key } => database.tree(*tree)?.remove(key)?,
                };
            }
            Ok(())
        })?;
        self.status.bytes = after;
        self.dirty = true;
        if flush { self.flush() } else { Ok(()) }
    }

    /// Brings everything to disk, and rewrites the database if its files outgrew the cap.
    pub(crate) fn flush(&mut self) -> Result<(), StateError> {
        self.refuse_if_failed()?;
        let size = self.call(|database| {
            database.sled.flush()?;
            database.sled.size_on_disk()
        })?;
        self.dirty = false;
        if size.is_some_and(|size| size > self.limits.max_file_bytes()) {
            self.rewrite()?;
        }
        Ok(())
    }

    /// Flushes and closes. A failed database is only closed.
    pub(crate) fn close(&mut self) -> Result<(), StateError> {
        let flushed = if self.is_dirty() { self.flush() } else { Ok(()) };
        self.drop_database();
        flushed
    }

    fn start(&mut self, discard: Option<String>) -> Result<(), StateError> {
        preflight::present(&self.cache)?;
        let unfinished = preflight::begin(&self.cache)?;
        let crashed = || format!("opening it ended the process {unfinished} times");
        let opened = match discard.or_else(|| (unfinished >= MAX_UNFINISHED).then(crashed)) {
            Some(why) => self.reset(&why),
            None => self.take_present(),
        };
        preflight::end(&self.cache);
        opened?;
        if self.size_on_disk().is_some_and(|size| size > self.limits.max_file_bytes()) {
            self.rewrite()?;
        }
        Ok(())
    }

    fn wants_room(&self) -> bool {
        let room = |failure: &Failure| matches!(failure.reason, Reason::StateNoSpace | Reason::StateReadOnly);
        self.status.failed.as_ref().is_some_and(room)
    }

    /// Reading needs no room on the disk: sled, which writes when it opens, opens a copy.
    fn read_a_copy(&mut self) {
        let Some(copy) = MemoryCopy::of(&self.cache) else { return };
        let (memory, cluster) = (self.limits.memory_bytes, self.cluster);
        preflight::repair_recovery_files(copy.path());
        let opened = guarded(|| open_sled(copy.path(), copy.number(), memory));
        let read = opened.and_then(|database| Ok((guarded(|| database.check(cluster))?, database)));
        match read {
            Ok(((bytes, _), database)) => {
                tracing::warn!("the cache is read from a copy in memory: there is no room to open it");
                self.status.bytes = bytes;
                (self.database, self.copy) = (Some(database), Some(copy));
            }
            Err(Fault::Disk(Failure { text: why, .. }) | Fault::Damage(why)) => {
                tracing::warn!(%why, "the cache cannot be read from a copy in memory");
            }
        }
    }

    /// Opens the database anew once there is room again.
    fn try_again(&mut self) {
        if !self.wants_room() || space::probe(&self.cache).is_err() {
            return;
        }
        let failed = self.status.failed.take();
        if self.copy.is_none() && self.database.is_some() {
            self.drop_database();
            self.held = true;
        }
        let (copied, copy) = (self.database.take(), self.copy.take());
        let free = if self.held { preflight::copy_to_next(&self.cache) } else { Ok(()) };
        self.held &= free.is_err();
        match free.and_then(|()| self.start(None)) {
            Ok(()) => {
                tracing::info!("there is room again: the cache is open");
                drop((copied, copy));
            }
            Err(_) => {
                self.database = self.database.take().or(copied);
                self.copy = copy;
                self.status.failed = failed;
                if self.database.is_none() {
                    self.read_a_copy();
                }
            }
        }
    }

    fn take_present(&mut self) -> Result<(), StateError> {
        match self.load() {
            Ok(()) => Ok(()),
            Err(Fault::Disk(failure)) => Err(self.fail(failure)),
            Err(Fault::Damage(why)) => self.reset(&why),
        }
    }

    /// Opens the present database and checks every value in it, so that damage shows here.
    fn load(&mut self) -> Result<(), Fault> {
        if self.abandoned.load(Ordering::Acquire) {
            return Err(Fault::Disk(Failure::of(&StateError::Timeout)));
        }
        let (number, path) =
            preflight::present(&self.cache).map_err(|error| Fault::Disk(Failure::of(&error)))?;
        // sled reads whole files, and waits for a pipe.
        if let Some(why) = preflight::foreign(&path, self.limits.max_file_bytes()) {
            return Err(Fault::Damage(why));
        }
        preflight::repair_recovery_files(&path);
        let memory = self.limits.memory_bytes;
        let cluster = self.cluster;
        let database = guarded(|| open_sled(&path, number, memory)).map_err(|fault| self.judge(fault))?;
        let checked = guarded(|| database.check(cluster)).map_err(|fault| self.judge(fault));
        // Kept even if the check failed: the caller lets it go.
        self.database = Some(database);
        self.suspect = checked.is_err();
        let (bytes, dropped) = checked?;
        self.status.bytes = bytes;
        self.status.dropped += dropped;
        Ok(())
    }

    /// Moves the database aside and goes on with an empty one.
    fn reset(&mut self, why: &str) -> Result<(), StateError> {
        if self.abandoned.load(Ordering::Acquire) {
            // The directory has a successor by now, which is not this engine's to move.
            return Err(StateError::CacheReset(why.to_owned()));
        }
        tracing::error!(%why, to = %self.quarantine.display(), "damaged cache moved aside, starting empty");
        self.drop_database();
        preflight::quarantine(&self.cache, &self.quarantine)?;
        self.status.quarantined += 1;
        self.status.bytes = 0;
        self.dirty = false;
        match self.load() {
            Ok(()) => Ok(()),
            Err(Fault::Disk(failure)) => Err(self.fail(failure)),
            Err(Fault::Damage(text)) => Err(self.fail(Failure { reason: Reason::StateCorrupt, text })),
        }
    }

    /// Copies all values to a new database and takes that one.
    fn rewrite(&mut self) -> Result<(), StateError> {
        let Some(number) = self.database.as_ref().map(|database| database.number + 1) else { return Ok(()) };
        let (building, path) =
            (preflight::building(&self.cache, number), preflight::path_of(&self.cache, number));
        let memory = self.limits.memory_bytes;
        self.call(|database| {
            let copy = open_sled(&building, number, memory)?;
            for (tree, values) in &database.trees {
                for entry in values.iter() {
                    let (key, value) = entry?;
                    copy.tree(*tree)?.insert(key, value)?;
                }
            }
            copy.sled.flush().map(|_| ())
        })?;
        self.drop_database();
        let moved = std::fs::rename(&building, &path);
        if let Err(error) = moved {
            return Err(self.fail(Failure { reason: space::io_reason(&error), text: error.to_string() }));
        }
        self.take_present()
    }

    fn size_after(&mut self, changes: &[Change]) -> Result<u64, StateError> {
        // Sizes of the touched keys as the changes leave them.
        let mut touched: BTreeMap<(Tree, &[u8]), (u64, u64)> = BTreeMap::new();
        for change in changes {
            let (tree, key, after) = match change {
                Change::Put { tree, key, value } => {
                    (*tree, key, (key.len() + frame::OVERHEAD + value.len()) as u64)
                }
                Change::Remove { tree, key } => (*tree, key, 0),
            };
            if let Some(sizes) = touched.get_mut(&(tree, key.as_slice())) {
                sizes.1 = after;
                continue;
            }
            let old = self.call(|database| Ok(database.tree(tree)?.get(key)?.map(|value| value.len())))?;
            let before = old.flatten().map_or(0, |length| (key.len() + length) as u64);
            touched.insert((tree, key), (before, after));
        }
        let (before, after) = touched.values().fold((0, 0), |sum, sizes| (sum.0 + sizes.0, sum.1 + sizes.1));
        Ok(self.status.bytes.saturating_sub(before) + after)
    }

    fn size_on_disk(&mut self) -> Option<u64> {
        self.call(|database| database.sled.size_on_disk()).ok().flatten()
    }

    /// One use of the database; `None` if there is none. Damage resets it, a disk error stops it.
    fn call<T>(&mut self, work: impl FnOnce(&Database) -> sled::Result<T>) -> Result<Option<T>, StateError> {
        let Some(database) = &self.database else { return Ok(None) };
        let result = guarded(|| work(database)).map_err(|fault| self.judge(fault));
        self.suspect |= result.is_err();
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Fault::Disk(failure)) => Err(self.fail(failure)),
            Err(Fault::Damage(text)) if self.status.failed.is_some() => {
                Err(self.fail(Failure { reason: Reason::StateCorrupt, text }))
            }
            Err(Fault::Damage(why)) => {
                self.reset(&why)?;
                Err(StateError::CacheReset(why))
            }
        }
    }

    /// sled panics on some failed writes too: a disk that refuses a probe is the cause, not damage.
    fn judge(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Damage(why) => match space::probe(&self.cache) {
                Ok(_) => Fault::Damage(why),
                Err(error) => Fault::Disk(Failure::of(&error)),
            },
            disk => disk,
        }
    }

    fn refuse_if_failed(&self) -> Result<(), StateError> {
        self.status.failed.as_ref().map_or(Ok(()), |failure| Err(failure.clone().into()))
    }

    fn fail(&mut self, failure: Failure) -> StateError {
        tracing::error!(reason = %failure.reason, cause = %failure.text, "cache stopped writing");
        self.status.failed.get_or_insert_with(|| failure.clone());
        failure.into()
    }

    /// Lets the database go. One that failed may wait for ever on its own writes while it is dropped,
    /// so a thread of its own does that.
    fn drop_database(&mut self) {
        let Some(database) = self.database.take() else { return };
        // sled panics if the last fsync fails; its files are given up or opened anew anyway.
        let release = move || drop(catch_unwind(AssertUnwindSafe(|| drop(database))));
        if !self.suspect {
            release();
        } else if let Err(error) = Builder::new().name("rap-cache-drop".to_owned()).spawn(release) {
            tracing::warn!(%error, "no thread to close the failed cache");
        }
        self.suspect = false;
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.drop_database();
    }
}

/// Opens that may end the process before the database is moved aside.
const MAX_UNFINISHED: u32 = 2;
