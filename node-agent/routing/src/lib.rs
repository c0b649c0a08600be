//! Which path leads to each node: constraints before costs, one search, a backup, and when a choice is kept.
//!
//! Owns the decision. Refuses to own clocks, randomness and sockets: time and a seed are inputs, and equal inputs give
//! equal decisions, so a recorded input replays. What a path costs only ranks it; which paths may be used is decided by
//! constraints alone.

#![deny(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod between;
mod constraint;
mod damping;
mod decision;
mod engine;
mod estimate;
mod explanation;
mod input;
mod keep;
mod lane;
mod loss;
mod path;
mod relay_set;
mod search;
mod terms;
mod words;

pub use constraint::Constraint;
pub use decision::{Decision, Why};
pub use engine::Engine;
pub use explanation::{Candidate, Damped, Explanation, Leg, Source, Standing};
pub use input::{Destination, Input, Own, Probes, RelayFacts, Said};
pub use lane::Lane;
pub use terms::Terms;
