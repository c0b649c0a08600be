//! Export and import of every row of the database, as text that is the same for the same rows.
//!
//! Owns the list of tables, their order and the statements. All come from the catalogue, so no table can be forgotten.
//! Refuses to own files, keys and later changes of rows. Sessions of operators are left out: a backup must log nobody
//! in.

mod dump;
mod restore;
mod tables;

pub use dump::Dump;
pub use restore::Restore;
#[cfg(test)]
pub(crate) use tables::STATEMENTS;
