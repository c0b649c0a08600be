//! The services of `rap.fabric.v1`.

mod guard;

pub use guard::{Guard, GuardRules, Offered, request_id};
