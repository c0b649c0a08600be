//! The services of `rap.fabric.v1`.

pub mod admin;
pub mod adoption;
mod answer;
pub mod audit_service;
pub mod authority;
pub mod break_glass;
mod call;
pub mod enrollment;
pub mod grants;
mod guard;
pub mod membership;
pub mod sync;
mod unknown;

pub use answer::Failure;
pub(crate) use call::authorized;
pub use call::{Actor, Call, audit, authorize, believe, untampered};
pub use guard::{Guard, GuardRules, Offered, request_id};
pub use unknown::Unknown;
