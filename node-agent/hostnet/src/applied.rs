//! What is put on the host: own addresses, routes, and what is missing of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::conflicts::Conflict;
use crate::prefixes::without;

/// Addresses and routes of the overlay interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Own overlay addresses, each by itself.
    pub addresses: BTreeSet<IpAddr>,
    /// Prefixes that are routed into the overlay.
    pub routes: BTreeSet<IpNet>,
}

/// What is on the host of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// True if the interface is up.
    pub up: bool,
    /// Addresses of the interface.
    pub addresses: BTreeSet<IpAddr>,
    /// Routes to the interface.
    pub routes: BTreeSet<IpNet>,
    /// Prefixes that are unreachable without the interface.
    pub unreachable: BTreeSet<IpNet>,
}

/// What is wanted and not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// True if the interface is down.
    pub down: bool,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Routes.
    pub routes: Vec<IpNet>,
    /// Unreachable prefixes.
    pub unreachable: Vec<IpNet>,
}

impl Applied {
    /// What is applied of own addresses, each with the prefix length of its pool, and of `prefixes`, which are
    /// routed into the overlay, when `held` counts. A pool needs no entry in `prefixes`; no default route is made.
    pub fn of<'a>(own: &[IpNet], prefixes: &[IpNet], held: impl IntoIterator<Item = &'a Conflict>) -> Self {
        let held = held.into_iter().filter(|conflict| conflict.holds_back());
        let holes: Vec<IpNet> = held.map(|conflict| conflict.prefix).collect();
        let is_free = |address: &IpAddr| !holes.iter().any(|hole| hole.contains(address));
        let addresses = own.iter().map(IpNet::addr).filter(is_free).collect();
        let routes =
            Self::wanted(own, prefixes).into_iter().flat_map(|prefix| without(prefix, &holes)).collect();
        Self { addresses, routes }
    }

    /// The prefixes that would be routed without any conflict, none within another.
    pub fn wanted(own: &[IpNet], prefixes: &[IpNet]) -> Vec<IpNet> {
        let all = own.iter().chain(prefixes).map(IpNet::trunc).filter(|prefix| prefix.prefix_len() > 0);
        let all: BTreeSet<IpNet> = all.collect();
        let within = |prefix: &IpNet| all.iter().any(|other| other != prefix && other.contains(prefix));
        all.iter().filter(|prefix| !within(prefix)).copied().collect()
    }

    /// The own address that packets into a route have as their source.
    pub fn source_of(&self, route: &IpNet) -> Option<IpAddr> {
        let family = |address: &&IpAddr| address.is_ipv4() == route.addr().is_ipv4();
        self.addresses.iter().find(family).copied()
    }

    /// What of this is not present.
    pub fn missing(&self, present: &Present) -> Missing {
        Missing {
            down: !present.up,
            addresses: self.addresses.difference(&present.addresses).copied().collect(),
            routes: self.routes.difference(&present.routes).copied().collect(),
            unreachable: self.routes.difference(&present.unreachable).copied().collect(),
        }
    }
}

impl Missing {
    /// True if nothing is missing.
    pub fn is_empty(&self) -> bool {
        let Self { down, addresses, routes, unreachable } = self;
        !down && addresses.is_empty() && routes.is_empty() && unreachable.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conflicts::conflicts;
    use crate::facts::{HostFacts, HostRoute};

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn texts(routes: &BTreeSet<IpNet>) -> Vec<String> {
        routes.iter().map(IpNet::to_string).collect()
    }

    #[test]
    fn own_addresses_stand_alone_and_pools_are_routes() {
        let own = nets(&["100.96.0.5/16", "fd00::5/48"]);
        let peers = nets(&["100.96.0.7/32", "fd00::7/128", "10.5.1.9/16", "0.0.0.0/0", "::/0", "fd01::/64"]);
        let applied = Applied::of(&own, &peers, []);
        assert_eq!(texts(&applied.routes), ["10.5.0.0/16", "100.96.0.0/16", "fd00::/48", "fd01::/64"]);
        assert_eq!(applied.addresses, ["100.96.0.5", "fd00::5"].map(|ip| ip.parse().unwrap()).into());
        assert_eq!(applied.source_of(&"fd01::/64".parse().unwrap()), Some("fd00::5".parse().unwrap()));
    }

    #[test]
    fn what_the_host_holds_is_left_out_of_routes_and_addresses() {
        let own = nets(&["100.96.0.5/16", "fd00::5/48"]);
        let route = HostRoute { prefix: "100.96.0.0/17".parse().unwrap(), next_hop: None, connected: false };
        let around = HostRoute { prefix: "fd00::/8".parse().unwrap(), next_hop: None, connected: false };
        let facts = HostFacts { routes: [route, around].into(), ..HostFacts::default() };
        let found = conflicts(&Applied::wanted(&own, &[]), &facts, &[]);
        assert_eq!(found.len(), 2);
        let applied = Applied::of(&own, &[], &found);
        assert_eq!(texts(&applied.routes), ["100.96.128.0/17", "fd00::/48"]);
        assert_eq!(applied.addresses, ["fd00::5".parse().unwrap()].into());
    }

    #[test]
    fn what_is_missing_is_named_one_by_one_and_what_others_added_is_not_ours() {
        let applied = Applied::of(&nets(&["100.96.0.5/16", "fd00::5/48"]), &[], []);
        let mut present = Present {
            up: true,
            addresses: applied.addresses.clone(),
            routes: applied.routes.clone(),
            unreachable: applied.routes.clone(),
        };
        present.addresses.insert("100.96.0.99".parse().unwrap());
        assert!(applied.missing(&present).is_empty());
        present.up = false;
        present.routes.remove(&"fd00::/48".parse().unwrap());
        present.unreachable.clear();
        let missing = applied.missing(&present);
        assert!(missing.down && missing.addresses.is_empty());
        assert_eq!((missing.routes, missing.unreachable.len()), (nets(&["fd00::/48"]), 2));
    }
}
