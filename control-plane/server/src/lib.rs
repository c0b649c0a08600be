//! The control plane: decides, signs, distributes.

pub mod certificates;
pub mod config;
pub mod tls;
