//! Links between nodes over TCP and TLS 1.3 with certificates on both sides.
//!
//! Owns sockets, TLS streams, the limits on handshakes, and one task per connection that drives a
//! `rap-link` session. Refuses to own decisions: [`Mesh::apply`] says which peers are desired, `rap-link`
//! decides the life of a link and the order of frames, and the certificate says who a peer is.

#![deny(clippy::await_holding_lock)]

mod accept;
mod active;
mod command;
mod config;
mod dial;
mod fabric;
mod inbox;
mod incoming;
mod lanes;
mod link_peers;
mod mesh;
mod on_demand;
mod outgoing;
mod paths;
mod pump;
mod registry;
mod relay_rows;
mod renew;
mod rows;
mod shared;
mod socket;
mod status;

pub use config::{Budget, MeshConfig};
pub use link_peers::{Dial, Peer, Peers};
pub use mesh::Mesh;
pub use rap_contract::RelayLink;
pub use rap_link::path::{Carries, KnownEnd, PathEnd, PathEvent, PathPlan, PathSlot, PathTerms, PathView};
pub use status::{LinkStatus, MeshEvent};
