//! What is known of the direct way to a peer.

use std::time::Duration;

use rap_types::Mono;

use super::trial::Trial;
use crate::liveness::Liveness;

/// What is known of the direct way.
#[derive(Debug, Default)]
pub(super) enum Direct {
    /// It does not carry the traffic. Its addresses are probed again then.
    #[default]
    Absent,
    /// As before, and addresses were probed at this time.
    Sought(Mono),
    /// It answered while a path carries the traffic.
    Trial(Trial),
    /// It carries the traffic. Not judged: the peer answers no probes.
    InUse { liveness: Liveness, judged: bool },
}

/// Between two rounds of probes that look for a direct way.
pub(super) const ROUND: Duration = Duration::from_secs(5);
