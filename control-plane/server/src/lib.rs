//! The control plane: decides, signs, distributes.

pub mod auth;
pub mod certificates;
pub mod clusters;
pub mod config;
pub mod control;
pub mod custody;
pub mod datadir;
pub mod grpc;
pub mod installation;
pub mod sync;
pub mod tasks;
pub mod tls;
mod transaction;
