//! What a cache is asked in and answers in: trees, bounds, changes, status.
//!
//! Owns the types. Refuses to own the database.

use std::time::Duration;

use rap_types::Reason;

use crate::error::StateError;

rap_types::word_enum! {
    /// One tree of the cache. The word is the name of the tree in the database.
    Tree {
        /// Snapshots and their chunks.
        Snapshot = "snapshot",
        /// Peer cache.
        Peers = "peers",
        /// Route cache.
        Routes = "routes",
        /// Assignments.
        Assignments = "assignments",
        /// Health observations.
        Health = "health",
        /// Sync progress.
        Sync = "sync",
        /// Update progress and artifacts.
        Update = "update",
    }
}

/// Bounds of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Bytes of keys and framed values. A write that would exceed it is refused with `state.full`.
    pub max_bytes: u64,
    /// Bytes of database pages held in memory.
    pub memory_bytes: u64,
    /// Calls that may wait for the database.
    pub queue: usize,
    /// Time an open may take before the database is moved aside and an empty one is opened.
    pub open_deadline: Duration,
    /// Time a call may take, waiting included.
    pub call_deadline: Duration,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            memory_bytes: 16 << 20,
            queue: 64,
            // Far beyond a slow machine: what is not opened in time is thrown away.
            open_deadline: Duration::from_secs(20),
            call_deadline: Duration::from_secs(5),
        }
    }
}

impl CacheLimits {
    /// Bytes of database files at which the database is rewritten.
    pub(super) const fn max_file_bytes(&self) -> u64 {
        self.max_bytes * 2 + (16 << 20)
    }
}

/// One change to the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Stores a value, replacing what was there.
    Put {
        /// Tree.
        tree: Tree,
        /// Key within it.
        key: Vec<u8>,
        /// Opaque value.
        value: Vec<u8>,
    },
    /// Removes a value, if there.
    Remove {
        /// Tree.
        tree: Tree,
        /// Key within it.
        key: Vec<u8>,
    },
}

/// Why a cache stopped writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Stable reason.
    pub reason: Reason,
    /// The cause in words.
    pub text: String,
}

/// How a cache fares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheStatus {
    /// Databases moved to `quarantine-1` by this process: the metric.
    pub quarantined: u64,
    /// Damaged values removed.
    pub dropped: u64,
    /// Bytes of keys and framed values.
    pub bytes: u64,
    /// Set once writing stopped: reads go on, if there is something to read, and the program should
    /// end or say so.
    pub failed: Option<Failure>,
}

impl Failure {
    pub(super) fn of(error: &StateError) -> Self {
        Self { reason: error.reason(), text: error.to_string() }
    }
}

impl From<Failure> for StateError {
    fn from(failure: Failure) -> Self {
        Self::CacheFailed { reason: failure.reason, text: failure.text }
    }
}
