//! The audit log as a tree: places for entries, signed checkpoints, proofs, and what breaks them.
//!
//! Rows are written by handlers (rap-store); here they are read again, checked and signed for.

pub mod alarm;
pub mod compare_witness;
pub mod follow;
pub mod generation;
pub mod log;
pub mod sequence;
pub mod term;
