//! The services of `rap.fabric.v1`.

mod answer;
mod call;
mod guard;

pub use answer::Failure;
pub use call::{Actor, Call, audit, authorize};
pub use guard::{Guard, GuardRules, Offered, request_id};
