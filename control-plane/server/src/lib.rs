//! The control plane: decides, signs, distributes.

pub mod auth;
pub mod certificates;
pub mod config;
pub mod datadir;
pub mod grpc;
pub mod sync;
pub mod tls;
