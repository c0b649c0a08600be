//! The life of a cluster's key.

use std::str::FromStr;

/// Life of a key: `prepared`, `active`, `tainted`, `revoked`, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyState {
    /// Made, not yet used.
    Prepared,
    /// Signs.
    Active,
    /// Replaced; no longer signs.
    Tainted,
    /// Not trusted.
    Revoked,
}

impl KeyState {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Tainted => "tainted",
            Self::Revoked => "revoked",
        }
    }
}

/// A word that names no state of a key.
#[derive(Debug, thiserror::Error)]
#[error("unknown key state")]
pub struct UnknownKeyState;

impl FromStr for KeyState {
    type Err = UnknownKeyState;

    fn from_str(word: &str) -> Result<Self, UnknownKeyState> {
        let known = [Self::Prepared, Self::Active, Self::Tainted, Self::Revoked];
        known.into_iter().find(|state| state.as_str() == word).ok_or(UnknownKeyState)
    }
}
