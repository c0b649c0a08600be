//! Paths through other nodes: the part of every node that sources, carries and ends them.
//!
//! Owns the labels and what stands behind each, the checks of an install, the life of the paths of this node, and
//! what is sent to whom. Refuses to own links, certificates, clocks and randomness: the shell verifies leaf
//! certificates and signs, carries messages, and says what the time is.
//!
//! # Why this is sound
//! - *No frame goes round.* An install is refused if a node occurs twice among source, previous, this node, next and
//!   destination, and a labelled frame passes at most as many nodes as its hop budget says, which falls at each node.
//! - *A label belongs to one neighbour.* Every lookup is by (neighbour, label). The labels that this node sends are
//!   unique per neighbour too, so that a fault names one path.
//! - *Nothing old comes back.* A new path needs a generation above every one that was taken from the same source for
//!   the same destination and lane. That number outlives the last such path by 660 s, and a signature counts for 600 s.
//! - *What is refused changes nothing* but the generation, the counters and the budgets.
//! - *Everything is bounded*: paths in all, paths and installs per source, open requests, remembered generations.

mod budget;
mod checks;
mod entry;
mod generations;
mod hop;
mod message;
mod own;
mod paths;
mod requests;
mod source;
mod sources;
mod table;
mod tending;
mod terms;
mod unknown;

pub use message::{
    OpenedRequest, REQUEST_MAX, RequestText, request_payload, wireguard_group, wireguard_payload,
};
pub use paths::Paths;
pub use terms::{
    Carries, DIAL_TIME, KnownEnd, PathEnd, PathEvent, PathInputs, PathLimits, PathOutput, PathPlan, PathSlot,
    PathTerms, PathView, Verdict,
};
