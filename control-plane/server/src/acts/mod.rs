//! Acts: what changes rows, one transaction each.
//!
//! Owns the order of writes inside a transaction, with the audit row and the outbox row. Refuses to parse
//! requests (`grpc`) and to decide what is allowed (pure crates).

pub mod accept_node;
pub mod activate;
pub mod adopt_cluster;
pub mod approve;
pub mod break_glass;
pub mod change;
pub mod claim;
pub mod contract;
pub mod create_cluster;
pub mod diagnose;
pub mod find_node;
pub mod grant_role;
pub mod heal;
pub mod join;
pub mod lock_cluster;
pub mod operator_session;
pub mod policy;
pub mod raise_incarnation;
pub mod readmit;
pub mod remove_node;
pub mod retire_authority;
pub mod rotate_authority;
pub mod rotate_ca;
pub mod rotate_data_key;
pub mod rotate_node_key;
pub mod token;
pub mod update_node;
