//! Reads what is on the host: of its own network what can collide with the overlay, and what of the overlay is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rap_hostnet::{HostFacts, HostRoute, Present};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType, RouteVia,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::requests::{PROTOCOL, UNREACHABLE_METRIC, with_netlink};
use crate::resolvers;

/// What of the host's network can collide with `wanted`. `interface` names an overlay interface: all that differ from
/// it by their number only are the product's own. Resolvers are read too; the control plane's addresses are not.
///
/// # Errors
/// What the kernel says.
pub async fn facts(wanted: &[IpNet], interface: &str) -> io::Result<HostFacts> {
    observed(wanted, interface, 0).await.map(|seen| seen.facts)
}

/// Everything that was read.
pub(crate) struct Seen {
    pub(crate) facts: HostFacts,
    pub(crate) present: Present,
}

/// The same with what is present of the overlay at the interface with this index.
pub(crate) async fn observed(wanted: &[IpNet], interface: &str, index: u32) -> io::Result<Seen> {
    let mut seen = with_netlink(|handle| read(handle, wanted, interface, index)).await?;
    seen.facts.resolvers = resolvers::read();
    Ok(seen)
}

async fn read(
    handle: Handle,
    wanted: &[IpNet],
    interface: &str,
    index: u32,
) -> Result<Seen, rtnetlink::Error> {
    let mut seen = Seen { facts: HostFacts::default(), present: Present::default() };
    let links = names(&handle, index, &mut seen.present).await?;
    let is_own = |link: u32| link == index || links.get(&link).is_some_and(|name| is_of(name, interface));
    let mut addresses = std::pin::pin!(handle.address().get().execute());
    while let Some(message) = addresses.try_next().await? {
        let Some(address) = address_of(&message) else { continue };
        if message.header.index == index {
            seen.present.addresses.insert(address.addr());
        } else if !is_own(message.header.index) {
            seen.facts.addresses.insert(address);
        }
    }
    for v6 in [false, true] {
        let mut routes = std::pin::pin!(handle.route().get(every_route(v6)).execute());
        while let Some(message) = routes.try_next().await? {
            sort(&message, wanted, index, is_own, &mut seen);
        }
    }
    Ok(seen)
}

/// Names of interfaces by index.
async fn names(
    handle: &Handle,
    index: u32,
    present: &mut Present,
) -> Result<BTreeMap<u32, String>, rtnetlink::Error> {
    let mut names = BTreeMap::new();
    let mut links = std::pin::pin!(handle.link().get().execute());
    while let Some(message) = links.try_next().await? {
        present.up |= message.header.index == index && message.header.flags.contains(LinkFlags::Up);
        let name = message.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        });
        names.extend(name.map(|name| (message.header.index, name)));
    }
    Ok(names)
}

/// True if the names differ by their number only.
fn is_of(name: &str, interface: &str) -> bool {
    let base = |name: &str| name.trim_end_matches(|letter: char| letter.is_ascii_digit()).to_owned();
    base(name) == base(interface)
}

fn address_of(message: &AddressMessage) -> Option<IpNet> {
    let find = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) if local => Some(*ip),
            AddressAttribute::Address(ip) if !local => Some(*ip),
            _ => None,
        })
    };
    // Of a point-to-point interface the second is the other end's.
    let ip = find(true).or_else(|| find(false))?;
    IpNet::new(ip, message.header.prefix_len).ok()
}

fn every_route(v6: bool) -> RouteMessage {
    let mut message = RouteMessageBuilder::<IpAddr>::new().build();
    message.header.address_family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message
}

/// Puts one route where it belongs: the host's, or present of the overlay.
fn sort(message: &RouteMessage, wanted: &[IpNet], index: u32, is_own: impl Fn(u32) -> bool, seen: &mut Seen) {
    let Some(route) = route_of(message) else { return };
    if !route.in_main {
        return;
    }
    if route.protocol == RouteProtocol::from(PROTOCOL) {
        if route.kind == RouteType::Unreachable && route.metric == UNREACHABLE_METRIC {
            seen.present.unreachable.insert(route.prefix);
        } else if route.interface == Some(index) {
            seen.present.routes.insert(route.prefix);
        }
        return;
    }
    let sends = matches!(
        route.kind,
        RouteType::Unicast | RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit
    );
    if sends && !route.interface.is_some_and(is_own) {
        let of_host = route.of_host();
        seen.facts.routes.extend(of_host.into_iter().filter(|route| route.concerns(wanted)));
    }
}

/// A route as far as it counts here.
pub(crate) struct SeenRoute {
    prefix: IpNet,
    next_hops: BTreeSet<IpAddr>,
    interface: Option<u32>,
    protocol: RouteProtocol,
    kind: RouteType,
    metric: u32,
    pub(crate) in_main: bool,
}

impl SeenRoute {
    /// One entry for each next hop.
    pub(crate) fn of_host(&self) -> Vec<HostRoute> {
        let connected = self.next_hops.is_empty()
            && self.kind == RouteType::Unicast
            && matches!(self.protocol, RouteProtocol::Kernel | RouteProtocol::Ra);
        let route = |next_hop| HostRoute { prefix: self.prefix, next_hop, connected };
        if self.next_hops.is_empty() {
            vec![route(None)]
        } else {
            self.next_hops.iter().map(|next| route(Some(*next))).collect()
        }
    }
}

/// Reads a route; `None` for one that is neither IPv4 nor IPv6.
pub(crate) fn route_of(message: &RouteMessage) -> Option<SeenRoute> {
    let nothing: IpAddr = match message.header.address_family {
        AddressFamily::Inet => [0; 4].into(),
        AddressFamily::Inet6 => [0; 16].into(),
        _ => return None,
    };
    let mut table = u32::from(message.header.table);
    let (mut destination, mut next_hops) = (nothing, BTreeSet::new());
    let (mut interface, mut metric) = (None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip_of(address)?,
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::MultiPath(hops) => {
                next_hops.extend(hops.iter().flat_map(|hop| hop.attributes.iter()).filter_map(next_hop));
                interface = interface.or_else(|| hops.first().map(|hop| hop.interface_index));
            }
            other => next_hops.extend(next_hop(other)),
        }
    }
    let prefix = IpNet::new(destination, message.header.destination_prefix_length).ok()?.trunc();
    let (protocol, kind) = (message.header.protocol, message.header.kind);
    let in_main = table == u32::from(RouteHeader::RT_TABLE_MAIN);
    Some(SeenRoute { prefix, next_hops, interface, protocol, kind, metric, in_main })
}

fn next_hop(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip_of(address),
        RouteAttribute::Via(RouteVia::Inet(ip)) => Some((*ip).into()),
        RouteAttribute::Via(RouteVia::Inet6(ip)) => Some((*ip).into()),
        _ => None,
    }
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_that_differ_by_their_number_are_the_products_own() {
        assert!(is_of("rap0", "rap0") && is_of("rap12", "rap0") && is_of("rap", "rap0"));
        assert!(!is_of("wrap0", "rap0") && !is_of("eth0", "rap0") && !is_of("rap0e1", "rap0"));
    }

    #[test]
    fn a_route_is_read_with_every_next_hop() {
        let prefix: IpNet = "10.5.0.0/16".parse().unwrap();
        let mut message = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(prefix.addr(), prefix.prefix_len())
            .unwrap()
            .protocol(RouteProtocol::Static)
            .kind(RouteType::Unicast)
            .table_id(1000)
            .build();
        let read = route_of(&message).unwrap();
        assert!(!read.in_main && read.prefix == prefix);
        assert_eq!(read.of_host(), [HostRoute { prefix, next_hop: None, connected: false }]);
        message.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Table(_)));
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.attributes.push(RouteAttribute::Gateway("10.0.0.1".parse::<IpAddr>().unwrap().into()));
        message.attributes.push(RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap())));
        let read = route_of(&message).unwrap();
        let hops: Vec<_> = read.of_host().iter().map(|route| route.next_hop.unwrap().to_string()).collect();
        assert!(read.in_main);
        assert_eq!(hops, ["10.0.0.1", "fe80::1"]);
    }

    #[tokio::test]
    async fn the_hosts_own_network_is_read() {
        let seen = facts(&["127.0.0.0/8".parse().unwrap()], "rap0").await.unwrap();
        assert!(seen.addresses.iter().any(|address| address.addr().is_loopback()), "{seen:?}");
    }
}
