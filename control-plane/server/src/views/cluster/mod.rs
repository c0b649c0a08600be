//! What operators of a cluster see.

pub mod authority;
pub mod policy;
pub mod rows;
