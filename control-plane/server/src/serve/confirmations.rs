//! Which nodes are waited for before a prepared authority may take over.

use std::time::Duration;

use rap_store::ConfirmationRow;
use rap_types::{ClusterId, Wall};

use crate::serve::handle::Serving;

/// True if the node was seen within a day and has not confirmed the record `wanted`.
pub(crate) fn is_awaited(
    serving: &Serving,
    row: &ConfirmationRow,
    cluster: ClusterId,
    wanted: u64,
    now: Wall,
) -> bool {
    if wanted <= 1 || row.sequence.is_some_and(|sequence| sequence >= wanted) {
        return false;
    }
    let connected = serving.sessions.acknowledged_by(cluster, row.node).is_some();
    connected || row.last_seen_at.is_some_and(|at| now.since(at) < SEEN_WITHIN)
}

const SEEN_WITHIN: Duration = Duration::from_secs(86_400);
