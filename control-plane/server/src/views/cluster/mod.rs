//! What operators of a cluster see.

pub mod authority;
pub mod ca;
pub mod plan_diff;
pub mod policy;
pub mod rows;
