//! The states of a session, without their data.
//!
//! Owns the words of status documents and logs.

use std::fmt;

/// State of a [`crate::Session`], without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum SessionState {
    Dialing,
    Handshaking,
    Authorising,
    Established,
    Suspect,
    Draining,
    Closed,
}

impl SessionState {
    /// Name in status documents and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dialing => "dialing",
            Self::Handshaking => "handshaking",
            Self::Authorising => "authorising",
            Self::Established => "established",
            Self::Suspect => "suspect",
            Self::Draining => "draining",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
