//! What the memberships of one host share: names, address pools, own addresses, and the handle to them.

mod addresses;
mod capabilities;
mod claims;
mod directory;
mod handle;
mod names;

pub use addresses::{own_endpoints, watch_addresses};
pub use capabilities::capabilities;
pub use claims::{HostClaims, OwnClaim};
pub use directory::{Directory, Entry, absent};
pub use handle::{HostEvent, HostHandle};
pub use names::{Answer, resolve_names};
