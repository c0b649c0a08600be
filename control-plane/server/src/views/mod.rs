//! What a caller may see of rows and state.
//!
//! Owns the messages of an answer. Refuses to read the database.

pub mod cluster;
pub mod owner;
