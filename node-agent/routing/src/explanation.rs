//! Why a path was chosen, and every other one was not.

use rap_types::{Mono, NodeId, Reason};
use serde::Serialize;

use crate::constraint::Constraint;
use crate::decision::Decision;
use crate::lane::Lane;
use crate::terms::Terms;

/// A decision with everything that led to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The destination.
    pub destination: NodeId,
    /// The lane whose weights count.
    pub lane: Lane,
    /// What holds, or what would be decided under the assumptions.
    pub decision: Decision,
    /// Relays that are assumed to be down.
    pub assumed_down: Vec<NodeId>,
    /// Every path that was looked at, the cheapest admissible one first.
    pub candidates: Vec<Candidate>,
    /// Relays that failed in the last minutes.
    pub damped: Vec<Damped>,
    /// When the destination may next change to a better path; `None`: at once.
    pub next_change: Option<Mono>,
}

/// A path that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// The relays, from this node on.
    pub relays: Vec<NodeId>,
    /// The first constraint that it does not meet.
    pub constraint: Option<Constraint>,
    /// The links of the path.
    pub legs: Vec<Leg>,
    /// What the relays themselves cost.
    pub relay_terms: Terms,
    /// The measured round trip of the whole path in microseconds, if it counts.
    pub measured_us: Option<u32>,
    /// In the last minute it took much longer than its relays say.
    pub disputed: bool,
    /// Cost in microseconds; `None`: it is not admissible.
    pub cost: Option<u32>,
    /// What became of it.
    pub standing: Standing,
}

/// One link of a path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leg {
    /// The node at the far end.
    pub to: NodeId,
    /// Where the numbers come from.
    pub source: Source,
    /// The terms of its cost.
    pub terms: Terms,
}

/// Where the numbers of a link come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// This node measured it.
    Measured,
    /// The relays at its ends say it.
    Said,
    /// Nothing is known: the region counts.
    Assumed,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is the primary.
    Chosen,
    /// It is the backup.
    Backup,
    /// It does not meet a constraint.
    Inadmissible,
    /// It was refused or ended a short while ago.
    Refused(Reason),
    /// A relay of it leaves or fails too often, and there is another path.
    Avoided,
    /// It costs so many microseconds more than the primary.
    Costlier(u32),
    /// It costs so many microseconds less: less than the margin for a change.
    WithinMargin(u32),
    /// It is cheaper, and the destination left a relay of it a short while ago.
    JustLeft,
    /// It is cheaper, and the next change is not due yet.
    Guarded,
}

/// A relay that failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Damped {
    /// The relay.
    pub relay: NodeId,
    /// Its figure of merit in thousandths; it is avoided from 2,000 on until it is below 750.
    pub merit_permille: u32,
    /// Whether it is avoided now.
    pub avoided: bool,
}
