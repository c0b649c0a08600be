//! The host's network: observed by netlink, changed by netlink and `nft`.
//!
//! Owns what it put there: addresses and routes of one overlay interface, unreachable routes and packet filter
//! that outlive it. Refuses to decide: `rap-hostnet` does.

mod events;
mod guard;
mod item;
mod network;
mod nft;
mod observe;
mod record;
mod requests;
mod resolvers;

pub use events::{Changed, Events};
pub use network::{Finding, HostNetwork, HostSettings, HostWanted};
pub use observe::facts;
pub use record::{clear, prefixes_of};
