//! The life of one path of this node: asked, up, renewing, leaving.
//!
//! Owns the transitions. Knows no messages and no other paths.

use std::time::Duration;

use rap_types::{Mono, NodeId, Reason};

use crate::path::terms::PathSlot;

/// Where a path of this node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The request is under way.
    Asked,
    /// Installed in every hop.
    Up {
        /// When to renew it.
        renew_at: Mono,
    },
    /// Installed, and a renewal is under way.
    Renewing,
    /// A newer path took over. Frames that are under way still arrive.
    Leaving {
        /// When to withdraw it.
        at: Mono,
    },
}

/// Something happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Every hop took it; renew it at this time.
    Installed {
        /// Next renewal.
        renew_at: Mono,
    },
    /// A hop refused it.
    Refused(Reason),
    /// No answer in time; ask again then.
    Unanswered {
        /// Next attempt of a renewal.
        again_at: Mono,
    },
    /// The link to the first hop ended, or a hop sent a fault.
    Broken(Reason),
    /// The lifetime of the path ended before a renewal was answered.
    Expired,
    /// The time of a renewal or of a withdrawal came.
    Due {
        /// A frame passed on this path or on its sibling within the last 60 s.
        used: bool,
    },
    /// A newer path of the same slot is up.
    Replaced {
        /// When to withdraw it.
        leave_at: Mono,
    },
    /// The plan no longer has it.
    Unplanned,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing.
    Nothing,
    /// Tell that it is up.
    Announce,
    /// Ask every hop for more time.
    Renew,
    /// It lives on until its end; another one must take over.
    Replace,
    /// It never was up.
    Fail(Reason),
    /// It is over, and its hops know or cannot be told.
    End(Reason),
    /// It is over; tell the hops.
    Withdraw(Reason),
}

impl Stage {
    /// The stage after `change`; `None`: the path is gone.
    pub(crate) fn after(self, change: Change) -> (Option<Self>, Act) {
        use Act::{Announce, End, Fail, Nothing, Renew, Replace, Withdraw};
        match (self, change) {
            (Self::Asked, Change::Installed { renew_at }) => (Some(Self::Up { renew_at }), Announce),
            (Self::Asked, Change::Refused(reason) | Change::Broken(reason)) => (None, Fail(reason)),
            (Self::Asked, Change::Unanswered { .. } | Change::Expired) => (None, Fail(Reason::PathTimeout)),
            (Self::Asked, Change::Due { .. }) => (Some(self), Nothing),
            (Self::Asked, Change::Replaced { .. } | Change::Unplanned) => {
                (None, Withdraw(Reason::PathWithdrawn))
            }
            (Self::Renewing, Change::Installed { renew_at }) => (Some(Self::Up { renew_at }), Nothing),
            // A hop lost the path or takes it no longer.
            (Self::Renewing, Change::Refused(_)) => (Some(Self::Up { renew_at: Mono(u64::MAX) }), Replace),
            (Self::Renewing, Change::Unanswered { again_at }) => {
                (Some(Self::Up { renew_at: again_at }), Nothing)
            }
            (Self::Up { renew_at }, Change::Due { used }) if renew_at < Mono(u64::MAX) => {
                if used {
                    (Some(Self::Renewing), Renew)
                } else {
                    (None, Withdraw(Reason::PathWithdrawn))
                }
            }
            (Self::Up { .. } | Self::Renewing | Self::Leaving { .. }, Change::Broken(reason)) => {
                (None, End(reason))
            }
            (Self::Up { .. } | Self::Renewing | Self::Leaving { .. }, Change::Expired) => {
                (None, End(Reason::PathExpired))
            }
            (Self::Up { .. } | Self::Renewing, Change::Replaced { leave_at }) => {
                (Some(Self::Leaving { at: leave_at }), Nothing)
            }
            (Self::Up { .. } | Self::Renewing, Change::Unplanned) => (None, Withdraw(Reason::PathWithdrawn)),
            (Self::Leaving { .. }, Change::Due { .. }) => (None, Withdraw(Reason::PathReplaced)),
            (Self::Leaving { .. }, Change::Unplanned) => (None, Withdraw(Reason::PathReplaced)),
            // Answers to nothing that is open, and times that are not meant.
            (
                Self::Up { .. } | Self::Leaving { .. },
                Change::Installed { .. } | Change::Refused(_) | Change::Unanswered { .. },
            )
            | (Self::Up { .. } | Self::Renewing, Change::Due { .. })
            | (Self::Leaving { .. }, Change::Replaced { .. }) => (Some(self), Nothing),
        }
    }

    /// When [`Change::Due`] is due.
    pub(crate) const fn due(self) -> Option<Mono> {
        match self {
            Self::Asked | Self::Renewing => None,
            Self::Up { renew_at: Mono(u64::MAX) } => None,
            Self::Up { renew_at } => Some(renew_at),
            Self::Leaving { at } => Some(at),
        }
    }

    /// True if frames may be sent on it.
    pub(crate) const fn is_up(self) -> bool {
        !matches!(self, Self::Asked)
    }
}

/// Labels of one hop: of frames from the node before it, and to that node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HopLabels {
    pub(crate) node: NodeId,
    pub(crate) in_label: u64,
    pub(crate) back_out_label: u64,
}

/// A path whose source this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnPath {
    pub(crate) destination: NodeId,
    pub(crate) slot: PathSlot,
    pub(crate) path_id: [u8; 16],
    pub(crate) generation: u64,
    /// From the first relay to the destination; never empty.
    pub(crate) hops: Vec<HopLabels>,
    pub(crate) stage: Stage,
    /// A hop answered, or the time for its answer passed.
    pub(crate) judged: bool,
    /// So many hops passed the latest request on before one refused it.
    pub(crate) passed: Option<u8>,
    /// End of the lifetime in the hops, or of the request.
    pub(crate) until: Mono,
}

impl OwnPath {
    pub(crate) fn first(&self) -> HopLabels {
        self.hops[0]
    }

    pub(crate) fn relays(&self) -> Vec<NodeId> {
        self.hops[..self.hops.len() - 1].iter().map(|hop| hop.node).collect()
    }

    pub(crate) fn due(&self) -> Mono {
        self.stage.due().map_or(self.until, |due| due.min(self.until))
    }
}

/// How long frames that are under way may still come on a path that was replaced.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::Act::*;
    use super::*;

    const RENEW: Mono = Mono(10);
    const NEVER: Mono = Mono(u64::MAX);
    const BROKEN: Reason = Reason::LinkClosed;
    const REFUSED: Reason = Reason::PathDenied;

    /// What becomes of each stage: asked, up, up without renewal, renewing, leaving.
    type Line = [(Option<Stage>, Act); 5];

    /// Every stage with every change.
    fn table() -> Vec<(Change, Line)> {
        use Stage::{Asked, Leaving, Renewing, Up};
        let up = Up { renew_at: Mono(20) };
        let (old, last) = (Up { renew_at: RENEW }, Up { renew_at: NEVER });
        let leaving = Leaving { at: Mono(30) };
        let gone = |act| (None, act);
        let stays = |stage| (Some(stage), Nothing);
        let withdrawn = gone(Withdraw(Reason::PathWithdrawn));
        let ended = |reason| gone(End(reason));
        vec![
            (
                Change::Installed { renew_at: Mono(20) },
                [(Some(up), Announce), stays(old), stays(last), stays(up), stays(leaving)],
            ),
            (
                Change::Refused(REFUSED),
                [gone(Fail(REFUSED)), stays(old), stays(last), (Some(last), Replace), stays(leaving)],
            ),
            (
                Change::Unanswered { again_at: Mono(20) },
                [gone(Fail(Reason::PathTimeout)), stays(old), stays(last), stays(up), stays(leaving)],
            ),
            (
                Change::Broken(BROKEN),
                [gone(Fail(BROKEN)), ended(BROKEN), ended(BROKEN), ended(BROKEN), ended(BROKEN)],
            ),
            (Change::Expired, {
                let expired = ended(Reason::PathExpired);
                [gone(Fail(Reason::PathTimeout)), expired, expired, expired, expired]
            }),
            (
                Change::Due { used: true },
                [
                    stays(Asked),
                    (Some(Renewing), Renew),
                    stays(last),
                    stays(Renewing),
                    gone(Withdraw(Reason::PathReplaced)),
                ],
            ),
            (
                Change::Due { used: false },
                [stays(Asked), withdrawn, stays(last), stays(Renewing), gone(Withdraw(Reason::PathReplaced))],
            ),
            (
                Change::Replaced { leave_at: Mono(30) },
                [withdrawn, stays(leaving), stays(leaving), stays(leaving), stays(leaving)],
            ),
            (
                Change::Unplanned,
                [withdrawn, withdrawn, withdrawn, withdrawn, gone(Withdraw(Reason::PathReplaced))],
            ),
        ]
    }

    #[test]
    fn every_stage_takes_every_change_as_the_table_says() {
        let stages = [
            Stage::Asked,
            Stage::Up { renew_at: RENEW },
            Stage::Up { renew_at: NEVER },
            Stage::Renewing,
            Stage::Leaving { at: Mono(30) },
        ];
        for (change, line) in table() {
            for (stage, expected) in stages.into_iter().zip(line) {
                assert_eq!(stage.after(change), expected, "{stage:?} {change:?}");
            }
        }
    }
}
