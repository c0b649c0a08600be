//! Composes the node's cores: routes inputs to them and orders their outputs.
//!
//! Owns the order (persist, activate, publish, acknowledge) and the forwarding table's shape. Refuses to
//! own policy: every limit and duration comes from a core, a snapshot or the caller.

#![cfg_attr(
    not(test),
    warn(clippy::wildcard_enum_match_arm, clippy::unwrap_used, clippy::await_holding_lock)
)]

mod cas;
mod diagnostics;
mod endpoint_names;
mod events;
mod hints;
mod link_watch;
mod node;
mod observations;
mod table;
mod way_watch;

pub use cas::TrustedCas;
pub use diagnostics::{Diagnostics, RunExplain, RunPing};
pub use endpoint_names::WantedNames;
pub use events::{ContactFacts, Input, LinkCertificate, NodeSettings, Output, PlaneFacts};
pub use hints::Hints;
pub use link_watch::LinkWatch;
pub use node::Node;
pub use observations::Observations;
pub use table::{ForwardingTable, PathTerms, Paths, TableInputs, TablePublisher, build_table};
pub use way_watch::{Relays, WayChange, WayWatch};
