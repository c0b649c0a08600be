//! The audit log as a tree: places for entries, signed checkpoints, proofs, and what breaks them.
//!
//! Rows are written by handlers (rap-store); here they are read again, checked and signed for.

mod compare;
mod follow;
mod generation;
mod log;
mod sequence;

pub use compare::compare_witness;
pub use follow::follow;
pub use generation::restart;
pub use log::{AuditLog, Finding, Signed};
pub use sequence::keep_audit;
