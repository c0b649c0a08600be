//! The control plane: decides, signs, distributes.

pub mod alarms;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod certificates;
pub mod cli;
pub mod clusters;
pub mod config;
pub mod confirm;
pub mod control;
pub mod custody;
pub mod database;
pub mod datadir;
pub mod findings;
pub mod floors;
pub mod grants;
pub mod grpc;
pub mod http;
pub mod init;
pub mod installation;
pub mod keys;
pub mod revocations;
mod rows;
pub mod serve;
pub mod sync;
pub mod tasks;
pub mod tls;
