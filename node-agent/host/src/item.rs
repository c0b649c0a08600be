//! What the kernel is asked for, thing by thing.

use std::net::IpAddr;

use ipnet::IpNet;
use rap_hostnet::Missing;

/// One thing that the kernel is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Item {
    Up,
    Address(IpAddr),
    Route(IpNet),
    Unreachable(IpNet),
}

impl Item {
    /// True for what needs IPv6.
    pub(crate) fn is_ipv6(&self) -> bool {
        match self {
            Self::Up => false,
            Self::Address(ip) => ip.is_ipv6(),
            Self::Route(prefix) | Self::Unreachable(prefix) => prefix.addr().is_ipv6(),
        }
    }
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Up => f.write_str("state up"),
            Self::Address(ip) => write!(f, "address {ip}"),
            Self::Route(prefix) => write!(f, "route {prefix}"),
            Self::Unreachable(prefix) => write!(f, "unreachable route {prefix}"),
        }
    }
}

/// Everything that is missing, one by one.
pub(crate) fn items(missing: &Missing) -> impl Iterator<Item = Item> + '_ {
    let up = missing.down.then_some(Item::Up);
    let addresses = missing.addresses.iter().copied().map(Item::Address);
    let routes = missing.routes.iter().copied().map(Item::Route);
    let unreachable = missing.unreachable.iter().copied().map(Item::Unreachable);
    up.into_iter().chain(addresses).chain(routes).chain(unreachable)
}
