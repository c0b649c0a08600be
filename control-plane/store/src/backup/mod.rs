//! Every row of the database out and back in, as text that is the same for the same rows.
//!
//! Owns which tables there are, their order and the statements, all asked of the catalogue, so that no
//! table can be forgotten. Refuses to own files, keys and what is done to rows afterwards. Sessions of
//! operators are left out: nobody is logged in by a backup.

mod dump;
mod restore;
mod tables;

pub use dump::Dump;
pub use restore::Restore;
#[cfg(test)]
pub(crate) use tables::STATEMENTS;
