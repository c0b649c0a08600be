//! Tests on a real PostgreSQL, one file per promise.

mod fixture;

mod cancelled;
mod audit_tree;
mod distribution;
mod enrollment;
mod installation;
mod isolation;
mod migrations;
mod nodes;
mod retry;
mod rows;
mod server;
mod statements;
