//! What makes sense in signed and reported facts: keys, addresses, pools, endpoints, names.
//!
//! A signature says who wrote a fact, not that the fact can be used. Every place that takes one in asks here: the
//! applicant, the acceptor, the planner, the control plane for what nodes report, the data plane.
//!
//! Owns the checks. Refuses to own what follows from a refusal.

mod address;
mod certificate;
mod endpoint;
mod key;
mod name;

pub use address::{OverlayPools, ipv4_pool};
pub use certificate::certificate;
pub use endpoint::{Loopback, endpoint, socket_address};
pub use key::wireguard_key;
pub use name::label;
