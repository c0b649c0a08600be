//! Installation, clusters, enrollment decisions, key custody.
//!
//! Owns what the control plane decides about trust, as functions of their inputs. Refuses to own a
//! clock, a generator, a socket or a table.

mod custody;

pub use custody::{SealPlace, SealPurpose, SealingKey, UnsealError};
