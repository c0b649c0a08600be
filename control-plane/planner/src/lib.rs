//! The planner: rows of one cluster version in, chunks, manifests and the Merkle map out; and what each
//! node is sent of it.
//!
//! Pure functions of their input, so that every replica computes identical leaves. Refuses to own SQL,
//! signing, streams and clocks.

#![cfg_attr(
    not(test),
    warn(clippy::wildcard_enum_match_arm, clippy::unwrap_used, clippy::await_holding_lock)
)]

pub mod addressing;
mod build;
mod chunks;
mod delivery;
mod diff;
mod head;
mod limits;
mod map_key;
mod node_manifest;
mod pace;
mod plan;
mod published;
mod relays;
mod rows;
mod turns;
mod update;

pub use build::plan;
pub use delivery::{Acknowledged, Delivery, Step};
pub use diff::{NodeDiff, PlanDiff};
pub use head::HeadTerms;
pub use limits::{LeftOut, Limits};
pub use map_key::MapKey;
pub use node_manifest::NodeManifest;
pub use pace::Pace;
pub use plan::{NodePlan, Plan, PlanError};
pub use published::Published;
pub use rows::{ClusterRows, LeafMemory, NextCa, NodeRow};
pub use turns::{Progress, Turns};
