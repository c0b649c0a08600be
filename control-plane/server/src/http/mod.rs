//! Plain HTTP on loopback: metrics and health. No identity, no secrets, no user data.

mod metrics;

pub use metrics::{FAMILIES, Metrics, serve_metrics};
