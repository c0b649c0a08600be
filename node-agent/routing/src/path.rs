//! A path within the engine, and one that a search found.

use serde::{Deserialize, Serialize};

use crate::relay_set::RelaySet;

/// Most relays of a path.
pub(crate) const LONGEST: usize = 3;

/// The relays of a path, from this node on, by their positions in the engine. Without a relay: the direct link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Path {
    length: u8,
    relays: [u8; LONGEST],
}

impl Path {
    pub(crate) const fn direct() -> Self {
        Self { length: 0, relays: [0; LONGEST] }
    }

    pub(crate) const fn one(relay: u8) -> Self {
        Self { length: 1, relays: [relay, 0, 0] }
    }

    /// From `first` to `last`, through a third one if there is one.
    pub(crate) const fn of(first: u8, through: Option<u8>, last: u8) -> Self {
        match through {
            None => Self { length: 2, relays: [first, last, 0] },
            Some(middle) => Self { length: 3, relays: [first, middle, last] },
        }
    }

    /// `None`: too long.
    pub(crate) fn from_slice(relays: &[u8]) -> Option<Self> {
        let mut path = Self { length: u8::try_from(relays.len()).ok()?, ..Self::default() };
        path.relays.get_mut(..relays.len())?.copy_from_slice(relays);
        Some(path)
    }

    pub(crate) fn relays(&self) -> &[u8] {
        &self.relays[..usize::from(self.length)]
    }

    pub(crate) fn set(&self) -> RelaySet {
        RelaySet::of(self.relays().iter().copied())
    }

    pub(crate) fn first(&self) -> Option<u8> {
        self.relays().first().copied()
    }
}

/// A path and its cost in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) cost: u32,
    pub(crate) path: Path,
    /// It was refused lately or its first link is down, and so is every other one.
    pub(crate) poor: bool,
}
