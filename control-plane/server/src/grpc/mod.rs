//! The services of `rap.fabric.v1`.

pub mod admin;
pub mod adoption;
pub mod answer;
pub mod audit;
pub mod authority;
pub mod break_glass;
pub mod enrollment;
pub mod grants;
pub mod guard;
pub mod membership;
pub mod once;
pub mod plan_diff;
pub mod router;
pub mod sync;
pub mod unknown;
