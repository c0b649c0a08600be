//! mTLS links: dial, accept, one task per link.
//!
//! Owns sockets, TLS streams, the accept budget and the tasks that drive `rap-link` sessions. Refuses
//! to own decisions: which peers exist comes in by [`Mesh::apply`], the life of a link is decided by
//! `rap-link`, who a peer is by its leaf certificate.

#![deny(clippy::await_holding_lock)]

mod accept;
mod command;
mod config;
mod dial;
mod link_peers;
mod mesh;
mod outgoing;
mod pump;
mod registry;
mod shared;
mod socket;
mod status;

pub use config::{Budget, MeshConfig};
pub use link_peers::{Peer, Peers};
pub use mesh::Mesh;
pub use status::{LinkStatus, MeshEvent};
