//! What was observed of a host's network, without what the product itself put there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

/// A route of the main table that the product did not add.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRoute {
    /// Its destination, truncated.
    pub prefix: IpNet,
    /// Where packets go next; `None` for a route to a device.
    pub next_hop: Option<IpAddr>,
    /// True for the route of a subnet that an interface is connected to.
    pub connected: bool,
}

/// The parts of a host's network that an overlay can collide with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Addresses of interfaces, each with its prefix length.
    pub addresses: BTreeSet<IpNet>,
    /// Routes of the main table.
    pub routes: BTreeSet<HostRoute>,
    /// Upstream resolvers.
    pub resolvers: BTreeSet<IpAddr>,
    /// Addresses of the control plane.
    pub control: BTreeSet<IpAddr>,
}

impl HostRoute {
    /// True if the route can collide with one of the wanted prefixes.
    pub fn concerns(&self, wanted: &[IpNet]) -> bool {
        let next_hop = |prefix: &IpNet| self.next_hop.is_some_and(|next| prefix.contains(&next));
        wanted.iter().any(|prefix| crate::share(prefix, &self.prefix) || next_hop(prefix))
    }
}
