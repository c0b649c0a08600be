//! Where an overlay and the network of its host want the same addresses, in three classes.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::facts::{HostFacts, HostRoute};
use crate::prefixes::share;

/// What a conflict means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The host needs the address to work: that part of a pool is never applied.
    Needed,
    /// The host routes that part of a pool elsewhere: it is the host's, unless an operator lifts this.
    Inside,
    /// The host routes more than the pool elsewhere: the overlay is applied, and somebody should know.
    Around,
}

/// What of the host is in conflict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Because {
    /// An own address.
    Address(IpAddr),
    /// A connected subnet.
    Subnet(IpNet),
    /// The next hop of a route.
    NextHop(IpAddr),
    /// An upstream resolver.
    Resolver(IpAddr),
    /// The control plane.
    Control(IpAddr),
    /// A route.
    Route(HostRoute),
}

/// One conflict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The part of a wanted prefix that is concerned. All of it for [`Class::Around`].
    pub prefix: IpNet,
    /// What it means.
    pub class: Class,
    /// What of the host it is.
    pub because: Because,
}

/// Every conflict of the wanted prefixes with a host. `allowed`: prefixes in which an operator lifts
/// [`Class::Inside`]. Of several needs of one part the first stands for all.
pub fn conflicts(wanted: &[IpNet], facts: &HostFacts, allowed: &[IpNet]) -> Vec<Conflict> {
    let mut found: Vec<Conflict> = Vec::new();
    for prefix in wanted {
        let mut needed: Vec<Conflict> = Vec::new();
        for because in needs(facts) {
            let Some(part) = part_of(prefix, &because) else { continue };
            if !needed.iter().any(|known| known.prefix.contains(&part)) {
                needed.push(Conflict { prefix: part, class: Class::Needed, because });
            }
        }
        let others = facts.routes.iter().filter(|route| !route.connected);
        let routed = others.filter_map(|route| routed(prefix, route, allowed));
        let free = |conflict: &Conflict| {
            conflict.class == Class::Around
                || !needed.iter().any(|known| known.prefix.contains(&conflict.prefix))
        };
        let routed: Vec<Conflict> = routed.filter(free).collect();
        found.extend(needed.into_iter().chain(routed));
    }
    found
}

/// The widest first, so that a subnet stands for the addresses in it.
fn needs(facts: &HostFacts) -> impl Iterator<Item = Because> + '_ {
    let connected = facts.routes.iter().filter(|route| route.connected).map(|route| route.prefix);
    let subnets = facts.addresses.iter().map(IpNet::trunc).chain(connected);
    let subnets = subnets.filter(|subnet| subnet.prefix_len() > 0).map(Because::Subnet);
    let own = facts.addresses.iter().map(|address| Because::Address(address.addr()));
    let next = facts.routes.iter().filter_map(|route| route.next_hop).map(Because::NextHop);
    let resolvers = facts.resolvers.iter().copied().map(Because::Resolver);
    let control = facts.control.iter().copied().map(Because::Control);
    let single = |because: &Because| matches!(because, Because::Subnet(net) if net.prefix_len() == net.max_prefix_len());
    subnets.filter(move |because| !single(because)).chain(own).chain(control).chain(next).chain(resolvers)
}

/// The part of `prefix` that the host needs for this reason.
fn part_of(prefix: &IpNet, because: &Because) -> Option<IpNet> {
    let needed = match because {
        Because::Subnet(subnet) => *subnet,
        Because::Route(route) => route.prefix,
        Because::Address(ip) | Because::NextHop(ip) | Because::Resolver(ip) | Because::Control(ip) => {
            IpNet::from(*ip)
        }
    };
    let smaller = if needed.contains(prefix) { *prefix } else { needed };
    share(prefix, &needed).then_some(smaller)
}

fn routed(prefix: &IpNet, route: &HostRoute, allowed: &[IpNet]) -> Option<Conflict> {
    let (part, class) = if prefix.contains(&route.prefix) {
        (route.prefix, Class::Inside)
    } else if route.prefix.contains(prefix) && route.prefix.prefix_len() >= SHORTEST {
        (*prefix, Class::Around)
    } else {
        return None;
    };
    let lifted = class == Class::Inside && allowed.iter().any(|allowed| allowed.contains(&part));
    (!lifted).then(|| Conflict { prefix: part, class, because: Because::Route(route.clone()) })
}

impl Conflict {
    /// True if the part is not applied.
    pub fn holds_back(&self) -> bool {
        match self.class {
            Class::Needed | Class::Inside => true,
            Class::Around => false,
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefix, class, because } = self;
        match class {
            Class::Needed => write!(f, "{prefix} of the overlay is {because}"),
            Class::Inside => write!(f, "{prefix} of the overlay is routed by this host: {because}"),
            Class::Around => write!(f, "the overlay's {prefix} is taken out of {because}"),
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => write!(f, "an address of this host, {ip}"),
            Self::Subnet(subnet) => write!(f, "in the connected subnet {subnet}"),
            Self::NextHop(ip) => write!(f, "the next hop {ip}"),
            Self::Resolver(ip) => write!(f, "the resolver {ip}"),
            Self::Control(ip) => write!(f, "the control plane's address {ip}"),
            Self::Route(HostRoute { prefix, next_hop: Some(next), .. }) => {
                write!(f, "the route {prefix} via {next}")
            }
            Self::Route(HostRoute { prefix, .. }) => write!(f, "the route {prefix}"),
        }
    }
}

/// Shorter prefixes are default routes: a VPN client adds 0.0.0.0/1 and 128.0.0.0/1 in the place of one.
const SHORTEST: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn route(text: &str) -> HostRoute {
        let (prefix, next) = text.split_once(" via ").map_or((text, None), |(p, n)| (p, Some(n)));
        let connected = prefix.starts_with('=');
        let next_hop = next.map(|next| next.parse().unwrap());
        HostRoute { prefix: net(prefix.trim_start_matches('=')), next_hop, connected }
    }

    fn host(addresses: &[&str], routes: &[&str]) -> HostFacts {
        HostFacts {
            addresses: addresses.iter().map(|text| net(text)).collect(),
            routes: routes.iter().map(|text| route(text)).collect(),
            ..HostFacts::default()
        }
    }

    fn found(wanted: &str, facts: &HostFacts, allowed: &[&str]) -> Vec<(Class, String)> {
        let allowed: Vec<IpNet> = allowed.iter().map(|text| net(text)).collect();
        let found = conflicts(&[net(wanted)], facts, &allowed);
        found.into_iter().map(|conflict| (conflict.class, conflict.prefix.to_string())).collect()
    }

    #[test]
    fn a_pool_in_the_hosts_subnet_or_around_it_is_needed_by_the_host() {
        let facts = host(&["10.77.0.5/24"], &["=10.77.0.0/24", "0.0.0.0/0 via 10.77.0.1"]);
        assert_eq!(found("10.77.0.0/25", &facts, &[]), [(Class::Needed, "10.77.0.0/25".to_owned())]);
        assert_eq!(found("10.77.0.0/16", &facts, &[]), [(Class::Needed, "10.77.0.0/24".to_owned())]);
        assert_eq!(found("10.78.0.0/16", &facts, &[]), []);
        let provider = host(&["100.64.3.4/10"], &["0.0.0.0/0 via 100.64.0.1"]);
        assert_eq!(found("100.96.0.0/16", &provider, &["0.0.0.0/0"]).len(), 1, "never lifted");
    }

    #[test]
    fn single_addresses_that_the_host_needs_are_holes_of_one_address() {
        let mut facts = host(&["100.96.1.1/32"], &["0.0.0.0/0 via 100.96.2.2"]);
        facts.resolvers.insert("100.96.3.3".parse().unwrap());
        facts.control.insert("100.96.4.4".parse().unwrap());
        facts.control.insert("fd00::4".parse().unwrap());
        let held: Vec<_> = found("100.96.0.0/16", &facts, &["100.96.0.0/16"]);
        let wanted = ["100.96.1.1/32", "100.96.4.4/32", "100.96.2.2/32", "100.96.3.3/32"];
        assert_eq!(held, wanted.map(|text| (Class::Needed, text.to_owned())));
        assert_eq!(found("fd00::/48", &facts, &[]), [(Class::Needed, "fd00::4/128".to_owned())]);
    }

    #[test]
    fn an_equal_or_more_specific_route_takes_its_part_unless_it_is_allowed() {
        let facts =
            host(&[], &["100.96.0.0/16 via 192.0.2.1", "100.96.7.0/24 via 192.0.2.1", "100.96.8.0/24"]);
        let inside = |texts: &[&str]| -> Vec<_> {
            texts.iter().map(|text| (Class::Inside, (*text).to_owned())).collect()
        };
        let all = ["100.96.0.0/16", "100.96.7.0/24", "100.96.8.0/24"];
        assert_eq!(found("100.96.0.0/16", &facts, &[]), inside(&all));
        assert_eq!(found("100.96.0.0/16", &facts, &["100.96.7.0/24"]), inside(&[all[0], all[2]]));
        assert_eq!(found("100.96.0.0/16", &facts, &["100.96.0.0/16"]), []);
    }

    #[test]
    fn a_less_specific_route_is_named_and_holds_nothing_back() {
        let facts = host(&[], &["10.0.0.0/8 via 192.0.2.1", "0.0.0.0/0 via 192.0.2.1"]);
        let named = conflicts(&[net("10.77.0.0/16")], &facts, &[]);
        assert_eq!(named.len(), 1);
        assert!(named[0].class == Class::Around && !named[0].holds_back());
        assert_eq!(
            named[0].to_string(),
            "the overlay's 10.77.0.0/16 is taken out of the route 10.0.0.0/8 via 192.0.2.1"
        );
        let vpn = host(
            &[],
            &["0.0.0.0/1 via 192.0.2.1", "128.0.0.0/1 via 192.0.2.1", "::/1 via fe80::1", "8000::/1"],
        );
        assert_eq!(conflicts(&[net("10.77.0.0/16"), net("fd00::/48")], &vpn, &[]), []);
    }

    #[test]
    fn a_route_concerns_a_pool_by_its_prefix_or_its_next_hop() {
        let wanted = [net("100.96.0.0/16")];
        for (text, concerns) in [
            ("100.96.7.0/24", true),
            ("100.64.0.0/10 via 192.0.2.1", true),
            ("0.0.0.0/0 via 100.96.0.1", true),
            ("10.0.0.0/8 via 100.96.0.1", true),
            ("10.0.0.0/8 via 192.0.2.1", false),
            ("fd00::/8", false),
        ] {
            assert_eq!(route(text).concerns(&wanted), concerns, "{text}");
        }
    }
}
