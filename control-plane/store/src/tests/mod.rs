//! Tests on a real PostgreSQL, one file per promise.

mod fixture;

mod audit_tree;
mod bare_clusters;
mod cancelled;
mod distribution;
mod enrollment;
mod heartbeats;
mod idempotency;
mod installation;
mod isolation;
mod migrations;
mod nodes;
mod retry;
mod row_macs;
mod rows;
mod server;
mod statements;
