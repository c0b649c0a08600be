//! Which links a node wants.
//!
//! Three sets are apart. A *known* peer is in the snapshot. A *wanted* peer is dialled. An *accepted* peer is linked
//! because the peer wants it. Tier sizes bound what is wanted; what a relay accepts is bounded elsewhere.
//!
//! Owns the tiers, the order of home relays, the recovery ladder, and the bounds of what is remembered of peers and
//! routes. Refuses to own clocks, randomness, sockets and disks: time and a seed are inputs, equal inputs give equal
//! decisions.

#![deny(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod cache;
mod compose;
mod facts;
mod homes;
mod ladder;
mod peer;
mod random;
mod rendezvous;
mod rows;
mod set;
mod size;
mod view;

pub use cache::{CacheChange, PEERS_MAX, PeerCache, ROUTES_MAX};
pub use facts::{Input, Known, Measured, Own, Required, Role};
pub use homes::{HomeRelay, homes};
pub use ladder::Rung;
pub use rows::{PeerRow, RouteRow};
pub use set::Peers;
pub use size::{Sizes, sizes};
pub use view::{State, Tier, View, Why};
