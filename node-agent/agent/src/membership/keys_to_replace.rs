//! Which keys of a membership are to be replaced.
//!
//! Owns the choice. Refuses to replace them: `crate::run` does.

/// Which keys are to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The identity key.
    pub identity: bool,
    /// The WireGuard key.
    pub wireguard: bool,
}
