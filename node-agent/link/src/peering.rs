//! Who dials whom, which of two connections stays, and the wait before the next dial.
//!
//! Owns three pure rules. Both ends must get the same result. Holds no state.

use std::time::Duration;

use rap_types::NodeId;

use crate::facts::Direction;

/// Time that the node with the larger id waits for the dial of the other before it dials itself.
pub const DIAL_GRACE: Duration = Duration::from_secs(2);

const REDIAL_FIRST: Duration = Duration::from_millis(250);
const REDIAL_MAX: Duration = Duration::from_secs(30);

/// Which of two connections to one peer stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The connection that was there first.
    Existing,
    /// The connection that was added.
    New,
}

/// True if `local` may dial `peer` when there was no link for `without_link`. The smaller id may dial at
/// once, the larger one after `grace`. Neither may without an endpoint.
pub fn may_dial(
    local: NodeId,
    peer: NodeId,
    has_endpoint: bool,
    without_link: Duration,
    grace: Duration,
) -> bool {
    has_endpoint && local != peer && (local < peer || without_link >= grace)
}

/// Which of two authenticated connections of one lane stays: the one dialled by the smaller id. If the same
/// side dialled both, the newer one stays: that side would not dial again if it still had the older one.
pub fn keep_of_duplicates(local: NodeId, peer: NodeId, existing: Direction, new: Direction) -> Kept {
    let smaller_dialled = if local < peer { Direction::Outbound } else { Direction::Inbound };
    if existing != new && existing == smaller_dialled { Kept::Existing } else { Kept::New }
}

/// Wait before retry number `attempt` (0 = first). Doubles from 250 ms to 30 s. `random` decides the upper
/// half of each step.
pub fn redial_delay(attempt: u32, random: u32) -> Duration {
    let full = REDIAL_FIRST.saturating_mul(1 << attempt.min(16)).min(REDIAL_MAX);
    let half = full / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}
