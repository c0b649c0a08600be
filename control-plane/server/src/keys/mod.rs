//! The keys that this control plane holds: sealed at rest, opened here.
//!
//! Owns how a key is sealed, opened and wrapped. Refuses to own which key counts (rap-authority).

pub mod certificate_authority;
pub mod data_keys;
pub mod handle;
pub mod installation;
pub mod key_encryption_key;
pub mod key_ring;
pub mod seal_context;
pub mod secrets;
