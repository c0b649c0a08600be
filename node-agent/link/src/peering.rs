//! Who dials whom, which of two connections stays, and how long to wait before dialling again.
//!
//! Owns three pure rules that both ends must compute alike. Holds no state.

use std::time::Duration;

use rap_types::NodeId;

use crate::facts::Direction;

/// How long the node with the larger id waits for the other's dial before it dials itself.
pub const DIAL_GRACE: Duration = Duration::from_secs(2);

const REDIAL_FIRST: Duration = Duration::from_millis(250);
const REDIAL_MAX: Duration = Duration::from_secs(30);

/// Which of two connections to one peer stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The one that was there.
    Existing,
    /// The one that came.
    New,
}

/// True if `local` may dial `peer` after being without a link to it for `without_link`: the smaller id
/// at once, the larger one after `grace`, and neither without an endpoint.
pub fn may_dial(
    local: NodeId,
    peer: NodeId,
    has_endpoint: bool,
    without_link: Duration,
    grace: Duration,
) -> bool {
    has_endpoint && local != peer && (local < peer || without_link >= grace)
}

/// Of two authenticated connections to `peer` the one dialled by the smaller id stays. If both were
/// dialled by the same side the newer stays: that side would not dial again if it still had the older.
pub fn keep_of_duplicates(local: NodeId, peer: NodeId, existing: Direction, new: Direction) -> Kept {
    let smaller_dialled = if local < peer { Direction::Outbound } else { Direction::Inbound };
    if existing != new && existing == smaller_dialled { Kept::Existing } else { Kept::New }
}

/// Wait before dial number `attempt` after a failure (0 = first retry): doubles from 250 ms to 30 s,
/// with the upper half of each step drawn from `random`.
pub fn redial_delay(attempt: u32, random: u32) -> Duration {
    let full = REDIAL_FIRST.saturating_mul(1 << attempt.min(16)).min(REDIAL_MAX);
    let half = full / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}
