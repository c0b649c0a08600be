//! Process exit codes of every program of the product.

/// What a program's exit status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Ok = 0,
    /// Failed for a reason without a code of its own.
    Generic = 1,
    /// Wrong command line or configuration.
    Usage = 2,
    /// The named thing does not exist.
    NotFound = 3,
    /// Not allowed.
    Denied = 4,
    /// Contradicts the present state.
    Conflict = 5,
    /// The other side cannot be reached.
    Unreachable = 6,
    /// A signature, hash or chain does not hold.
    VerificationFailed = 7,
    /// Works, but degraded.
    Degraded = 8,
    /// The deadline passed.
    Timeout = 10,
}
