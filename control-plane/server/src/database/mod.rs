//! The database and the floors of this replica.
//!
//! Owns how a database is opened and what this replica keeps outside of it. Refuses to own any statement
//! (rap-store).

pub mod change;
pub mod claim;
pub mod handle;
pub mod opened;
pub mod replica_floors;
pub mod signed_copies;
