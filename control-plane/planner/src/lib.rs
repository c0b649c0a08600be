//! The planner: rows of one cluster version in, chunks, manifests and the Merkle map out.
//!
//! A pure function of its input, so that every replica computes identical leaves. Refuses to own
//! SQL, signing and delivery.

pub mod addressing;
mod chunks;
mod head;
mod map_key;
mod plan;
mod rows;
mod update;

pub use head::HeadTerms;
pub use map_key::MapKey;
pub use plan::{NodePlan, Plan, PlanError, plan};
pub use rows::{ClusterRows, LeafMemory, NodeRow};
