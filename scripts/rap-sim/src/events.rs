//! What can happen in a run, and how often it did.

use std::collections::BTreeMap;
use std::fmt;

macro_rules! events {
    ($($name:ident),* $(,)?) => {
        /// A kind of event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Event { $($name),* }

        impl Event {
            const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

events! {
    // The rows, and what brings them to nodes.
    NodeAdded, SharedChange, PrivateChange, RelayDrained, NodeRevoked, HeadRefreshed, FullUpdate, DeltaUpdate, HeadSent,
    Dropped, Duplicated, Reordered, StreamLost, Restarted, RestartedBeforeDisk, DiskFailed, Activated, Restricted,
    Acknowledged, Refused, AckTimeout,
    // What is done to the network and to data planes.
    LineCut, LineCutOneWay, LineFlapped, LineLossy, LineSlow, Partitioned, PlaneKilled, InstanceLost, PlaneStopped,
    FrameLost, FrameTwice, FrameOutOfOrder, FrameLate, TimerLate, LinkUp, LinkLost, LinkReplaced,
    // What dishonest nodes do.
    FramesSwallowed, WithdrawalSwallowed, PayloadModified, LabelSpliced, LabelForeign, InstallReplayed, InstallReplayedByAnother, InstallForged,
    InstallLooped, InstallThroughAStranger, InstallFlood,
    // What the shipped cores make of it.
    PathUp, PathRenewed, PathWithdrawn, PathReplaced, PathExpired, PathBroken, PathRefused, BackupUp, Failover, StaleRefused,
    TombstoneHit, RateRefused, SignatureRefused, LoopRefused, NeighbourRefused, CarrierRefused, DrainingRefused,
    LabelRefused, SpliceRefusedAtTheEnd, ModifiedRefusedAtTheEnd, CopyRefusedAtTheEnd, SessionRenewed,
    // What was seen when the network had been quiet.
    PairTalks, PairCutOff,
}

/// How often each kind occurred.
#[derive(Debug, Default, Clone)]
pub struct Counts(BTreeMap<Event, u64>);

impl Counts {
    /// It occurred.
    pub fn add(&mut self, event: Event) {
        *self.0.entry(event).or_default() += 1;
    }

    /// Adds what another run saw.
    pub fn merge(&mut self, other: &Self) {
        for (event, count) in &other.0 {
            *self.0.entry(*event).or_default() += count;
        }
    }

    /// Kinds that did not occur.
    pub fn never(&self) -> Vec<String> {
        self.all().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }

    /// Every kind with its count, in the order of their declaration.
    pub fn all(&self) -> impl Iterator<Item = (String, u64)> {
        Event::ALL.iter().map(|event| (format!("{event:?}"), self.0.get(event).copied().unwrap_or(0)))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.all().try_for_each(|(name, count)| writeln!(f, "{count:>10}  {name}"))
    }
}
