//! A forwarding table, read and checked as a whole before anything of it is used.
//!
//! Owns what a well-formed table is, how a change is made of one, and how deadlines combine. Refuses to own its
//! truth: the agent verified what it was made from. A contradiction in its header refuses the table; a setting out of
//! range is brought into it, and an endpoint that cannot be used is left out. Peers are judged one by one: a peer that
//! cannot be used is left out, and of two with one key or one prefix the second has no tunnel.

mod deadlines;
mod field;
mod header;
mod identity;
mod known;
mod member;
mod parts;
mod paths;
mod peer;
mod plan;
mod revocations;

pub(crate) use field::refused;
pub(crate) use known::KnownTable;
pub(crate) use member::Member;
pub(crate) use parts::Parts;
pub(crate) use plan::{PathsInForce, PeerFacts, Plan};
pub(crate) use revocations::LearnedRevocations;

#[cfg(test)]
mod tests;
