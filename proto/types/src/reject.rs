//! Why a signed object was refused.

use crate::Reason;

/// A refusal: the stable reason and which field or object it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {what}")]
pub struct Reject {
    /// Stable reason code.
    pub reason: Reason,
    /// Field or object, for people; never carries input bytes.
    pub what: &'static str,
}

impl Reject {
    /// A refusal of `what` because of `reason`.
    pub const fn new(reason: Reason, what: &'static str) -> Self {
        Self { reason, what }
    }

    /// Refuses `what` because of `reason` if `wrong` holds.
    ///
    /// # Errors
    /// The refusal.
    pub const fn when(wrong: bool, reason: Reason, what: &'static str) -> Result<(), Self> {
        if wrong { Err(Self::new(reason, what)) } else { Ok(()) }
    }
}
