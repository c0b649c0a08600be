//! The forwarding table: built from a snapshot, then sent whole, in parts or as a change of another one.

mod build;
mod delta;
mod forwarding;
mod homes;
mod links;
mod parts;
mod paths;
mod publisher;

pub use build::{TableInputs, build_table};
pub use forwarding::ForwardingTable;
pub use paths::{PathTerms, Paths};
pub use publisher::TablePublisher;
