//! Plain HTTP on loopback: metrics and health. No identity, no secrets, no user data.

pub mod endpoint;
