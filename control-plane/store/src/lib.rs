//! The only crate with SQL.
//!
//! Owns the private PostgreSQL, the three database roles and their pools, the migrations, and one
//! file of statements per table family. Refuses to own decisions: it does not sign, plan or
//! authorise. Every method runs inside a connection or transaction of the caller, so that a
//! handler commits its change, the outbox row and the audit row together or not at all.

mod authentic;
mod backup;
mod columns;
mod counted;
mod database_url;
mod doorbell;
mod error;
mod migrate;
mod pool;
pub mod postgres;
mod query;
mod read_back;
mod retry;
mod roles;
mod row;
mod row_name;
mod signed_copy;
mod statement;
mod still_done;
mod tables;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod trace;
mod transaction;

pub use authentic::Held;
pub use backup::{Dump, Restore};
pub use doorbell::{Doorbell, DoorbellSignal, doorbell_ring, doorbell_tell};
pub(crate) use error::Result;
pub use error::StoreError;
pub use migrate::{
    MigrationError, migrate_down, migrate_to, migrate_up, migration_applied, newest_migration,
};
pub use pool::{AppPool, DatabaseTarget, PoolSettings, Store, SystemPool, statements_within};
pub use retry::{Runs, Transient};
pub use roles::{DatabaseRole, RoleError};
pub use row_name::RowName;
pub use signed_copy::SignedCopy;
/// What every method that reads runs on: a connection, or an open transaction by `&mut transaction`.
pub use sqlx::PgConnection;
pub use still_done::still_done;
pub use transaction::{Committed, Effects, OrganizationTransaction, SystemTransaction};

pub use tables::addresses::*;
pub use tables::audit::*;
pub use tables::audit_tree::*;
pub use tables::authority_life::*;
pub use tables::bare_clusters::*;
pub use tables::break_glass::*;
pub use tables::cluster_keys::*;
pub use tables::clusters::*;
pub use tables::contacts::*;
pub use tables::data_keys::*;
pub use tables::heads::*;
pub use tables::heartbeats::*;
pub use tables::idempotency::*;
pub use tables::identities::*;
pub use tables::installation::*;
pub use tables::join_requests::*;
pub use tables::leaves::*;
pub use tables::nodes::*;
pub use tables::operators::*;
pub use tables::organizations::*;
pub use tables::outbox::*;
pub use tables::planner_read::*;
pub use tables::restores::*;
pub use tables::revocations::*;
pub use tables::rewrap::*;
pub use tables::role_grants::*;
pub use tables::rows::*;
pub use tables::signed_copies::*;
pub use tables::tokens::*;

#[cfg(test)]
mod tests;
