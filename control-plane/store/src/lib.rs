//! The only crate with SQL.
//!
//! Owns the private PostgreSQL, the three database roles and their pools, the migrations, and one
//! file of statements per table family. Refuses to own decisions: it neither signs, nor plans, nor
//! judges a caller. Every method runs inside a connection or transaction of the caller, so that a
//! handler commits its change, the outbox row and the audit row together or not at all.

mod error;
pub mod postgres;

pub use error::StoreError;
