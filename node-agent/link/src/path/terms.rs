//! What the core of paths is told, and what it asks for.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rap_contract::PathInstall;
use rap_types::{Mono, NodeId, OrganizationId, Reason};

use crate::frame::FrameKind;

/// Local end of one installed path. Unique in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathEnd(pub(crate) u64);

impl PathEnd {
    /// The number that names it.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A path that is up, seen from this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathView {
    /// Names the path.
    pub end: PathEnd,
    /// Node at the other end.
    pub peer: NodeId,
    /// Which path this is.
    pub slot: PathSlot,
    /// As in [`PathEvent::Up`].
    pub relays: Vec<NodeId>,
}

/// Which of the paths to one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathSlot {
    /// The chosen path of this node.
    Primary,
    /// The path that this node keeps ready.
    Backup,
    /// The peer installed the path; this node is its destination.
    Answering,
}

/// The paths from this node to one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPlan {
    /// Id of the node at the other end.
    pub destination: NodeId,
    /// Relays from this node on, at most three. Empty: the link to the destination.
    pub primary: Vec<NodeId>,
    /// As `primary`.
    pub backup: Option<Vec<NodeId>>,
}

/// What this node carries for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carries {
    /// True: for everybody. False: for ends of the own organization alone.
    pub any_organization: bool,
    /// No new paths are taken.
    pub draining: bool,
}

/// A node that may be an end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownEnd {
    /// Absent: of the platform.
    pub organization: Option<OrganizationId>,
    /// Until when the node is known, on the boot clock.
    pub deadline: Mono,
}

/// The rules of this node, replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTerms {
    /// Organization of this node; absent: of the platform.
    pub organization: Option<OrganizationId>,
    /// Absent: this node carries nothing for others.
    pub carries: Option<Carries>,
    /// Lifetime of the paths of this node, seconds: 10 to 600.
    pub lifetime_s: u32,
    /// Upper half of the generations of this node; rises with each start.
    pub instance: u32,
    /// End of all paths, on the boot clock.
    pub deadline: Mono,
    /// Every node that may be an end or a hop of a path.
    pub known: BTreeMap<NodeId, KnownEnd>,
}

/// Bounds of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathLimits {
    /// Paths carried in all.
    pub paths: usize,
    /// Paths carried for one source.
    pub paths_per_source: usize,
    /// Requests under way through this node in all.
    pub requests: usize,
    /// Requests under way from one neighbour.
    pub requests_per_neighbour: usize,
    /// Installs per second and at once, in all.
    pub installs: (u32, u32),
    /// Installs per second and at once, of one source.
    pub installs_per_source: (u32, u32),
    /// Signatures verified per second and at once, for one neighbour.
    pub verifications_per_neighbour: (u32, u32),
    /// Generations remembered.
    pub generations: usize,
}

impl Default for PathLimits {
    fn default() -> Self {
        Self {
            paths: 16_384,
            paths_per_source: 512,
            requests: 4096,
            requests_per_neighbour: 512,
            installs: (500, 500),
            installs_per_source: (50, 200),
            verifications_per_neighbour: (250, 500),
            generations: 16_384,
        }
    }
}

/// A change that the user of paths must know, or a datagram for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathEvent {
    /// A path is installed in every hop. It takes over from an older one of the same peer and slot.
    Up {
        /// Names the path from now on.
        end: PathEnd,
        /// Node at the other end.
        peer: NodeId,
        /// Which path this is.
        slot: PathSlot,
        /// Relays from this node on. Of an answering path the one next to this node alone is known.
        relays: Vec<NodeId>,
    },
    /// A path that was up ended.
    Down {
        /// Names the path.
        end: PathEnd,
        /// Why.
        reason: Reason,
    },
    /// A path could not be installed. It is tried again while it is used.
    Refused {
        /// Node at the other end.
        peer: NodeId,
        /// Which path.
        slot: PathSlot,
        /// Relays of the path, from this node on.
        relays: Vec<NodeId>,
        /// A hop refused it, or none answered in time. False: the request did not leave this node, or its link broke.
        by_hop: bool,
        /// With a hop that refused it: so many relays passed it on before.
        passed: Option<u8>,
        /// Why.
        reason: Reason,
    },
    /// A datagram arrived.
    Received {
        /// The path it came on.
        end: PathEnd,
        /// Node at the other end of the path, as its install says. Nothing proves that it sent the datagram.
        peer: NodeId,
        /// One WireGuard datagram.
        datagram: Bytes,
    },
}

/// What the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathOutput {
    /// Send a message over the link to `to`, if it stands.
    Send {
        /// A neighbour.
        to: NodeId,
        /// Kind of the frame.
        kind: FrameKind,
        /// Encoded message.
        payload: Vec<u8>,
    },
    /// As `Send`, after the link was dialled if it does not stand. If that takes longer than [`DIAL_TIME`], call
    /// [`crate::Paths::not_passed`].
    Pass {
        /// The next hop.
        to: NodeId,
        /// Names the request to [`crate::Paths::not_passed`].
        request: u64,
        /// Encoded `PathRequest`.
        payload: Vec<u8>,
    },
    /// Sign the installs, one for each of `hops`, put them in a `PathRequest` with this request id, and pass it to the
    /// first of them as in `Pass`.
    Ask {
        /// The hops in their order.
        hops: Vec<NodeId>,
        /// Request id.
        request: u64,
        /// What to sign.
        installs: Vec<PathInstall>,
    },
    /// Tell the user of paths.
    Tell(PathEvent),
}

/// What the core needs from its shell at each input that may make a path.
pub struct PathInputs<'a> {
    /// Both clocks.
    pub now: rap_types::Now,
    /// A generator of uniform numbers that nobody can guess.
    pub random: &'a mut dyn FnMut() -> u64,
}

/// What becomes of a labelled frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it on, with this label and hop budget.
    Forward {
        /// The next node.
        to: NodeId,
        /// Label at that node.
        label: u64,
        /// Hop budget.
        hop_budget: u8,
    },
    /// This node is an end of the path.
    Deliver {
        /// The path.
        end: PathEnd,
        /// Node at the other end.
        peer: NodeId,
    },
    /// It is dropped.
    Refused(Reason),
}

/// Time to make a link to the next hop.
pub const DIAL_TIME: Duration = Duration::from_secs(2);
/// Time in which the source wants an answer.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(3);
