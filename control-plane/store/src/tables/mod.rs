//! One file per table family: static statements, rows as plain types, methods named noun first.
//!
//! Each method takes the caller's connection, usually an open transaction. Guards against races are
//! in the statements: a row that carries a MAC is locked by the statement that reads it for a change,
//! and the one that writes it names the version it replaces.

pub(crate) mod addresses;
pub(crate) mod audit;
pub(crate) mod audit_tree;
pub(crate) mod authority_life;
pub(crate) mod bare_clusters;
pub(crate) mod break_glass;
pub(crate) mod cluster_keys;
pub(crate) mod clusters;
pub(crate) mod contacts;
pub(crate) mod data_keys;
pub(crate) mod heads;
pub(crate) mod heartbeats;
pub(crate) mod idempotency;
pub(crate) mod identities;
pub(crate) mod installation;
pub(crate) mod join_requests;
pub(crate) mod leaves;
pub(crate) mod nodes;
pub(crate) mod operators;
pub(crate) mod organizations;
pub(crate) mod outbox;
pub(crate) mod planner_read;
pub(crate) mod restores;
pub(crate) mod revocations;
pub(crate) mod rewrap;
pub(crate) mod role_grants;
pub(crate) mod rows;
pub(crate) mod signed_copies;
pub(crate) mod tokens;
