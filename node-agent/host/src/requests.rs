//! Changes of one interface and of routes, one netlink request each.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::{AddressMessageBuilder, Handle, LinkUnspec, RouteMessageBuilder};

/// Switches link-local addresses off: the overlay has none. Set by netlink, because a hardened service cannot
/// write /proc/sys.
pub(crate) async fn no_link_local(index: u32) -> io::Result<()> {
    let none = vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)];
    let none = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(none)]);
    let quiet = LinkUnspec::new_with_index(index).append_extra_attribute(none).build();
    with_netlink(|handle| async move { handle.link().set(quiet).execute().await }).await
}

pub(crate) async fn set_up(index: u32, mtu: u16) -> io::Result<()> {
    let up = LinkUnspec::new_with_index(index).mtu(mtu.into()).up().build();
    with_netlink(|handle| async move { handle.link().set(up).execute().await }).await
}

pub(crate) async fn add_address(index: u32, address: IpAddr) -> io::Result<()> {
    let length = IpNet::from(address).prefix_len();
    with_netlink(|handle| async move {
        let mut request = handle.address().add(index, address, length).replace();
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request.execute().await
    })
    .await
}

pub(crate) async fn remove_address(index: u32, address: IpAddr) -> io::Result<()> {
    let message = match address {
        IpAddr::V4(ip) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(ip, 32).build(),
        IpAddr::V6(ip) => AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(ip, 128).build(),
    };
    with_netlink(|handle| async move { handle.address().del(message).execute().await }).await
}

/// Routes a prefix to the interface, with an own address as the source of what this host sends there.
pub(crate) async fn add_route(index: u32, route: IpNet, source: Option<IpAddr>) -> io::Result<()> {
    let message = to_interface(index, route, source)?;
    with_netlink(|handle| async move { handle.route().add(message).execute().await }).await
}

pub(crate) async fn remove_route(index: u32, route: IpNet) -> io::Result<()> {
    let message = to_interface(index, route, None)?;
    with_netlink(|handle| async move { handle.route().del(message).execute().await }).await
}

/// Makes a prefix unreachable wherever no better route leads: what was meant for the overlay never leaves in clear.
pub(crate) async fn add_unreachable(prefix: IpNet) -> io::Result<()> {
    let message = unreachable_route(prefix)?;
    with_netlink(|handle| async move { handle.route().add(message).execute().await }).await
}

pub(crate) async fn remove_unreachable(prefix: IpNet) -> io::Result<()> {
    let message = unreachable_route(prefix)?;
    with_netlink(|handle| async move { handle.route().del(message).execute().await }).await
}

fn to_interface(index: u32, route: IpNet, source: Option<IpAddr>) -> io::Result<RouteMessage> {
    let scope = if route.addr().is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    let mut builder = ours(route)?.output_interface(index).scope(scope);
    if let Some(source) = source {
        builder = builder.pref_source(source).map_err(io::Error::other)?;
    }
    Ok(builder.build())
}

fn unreachable_route(prefix: IpNet) -> io::Result<RouteMessage> {
    Ok(ours(prefix)?.kind(RouteType::Unreachable).priority(UNREACHABLE_METRIC).build())
}

fn ours(prefix: IpNet) -> io::Result<RouteMessageBuilder<IpAddr>> {
    let builder = RouteMessageBuilder::<IpAddr>::new().protocol(RouteProtocol::from(PROTOCOL));
    builder.destination_prefix(prefix.addr(), prefix.prefix_len()).map_err(io::Error::other)
}

/// Runs a request together with its netlink connection, which ends with the request.
pub(crate) async fn with_netlink<T, F, R>(request: F) -> io::Result<T>
where
    F: FnOnce(Handle) -> R,
    R: Future<Output = Result<T, rtnetlink::Error>>,
{
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::select! {
        result = request(handle) => result.map_err(as_io),
        () = connection => Err(io::Error::other("netlink connection ended")),
        () = tokio::time::sleep(NETLINK_WAIT) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn as_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

/// Protocol number of every route that the product adds (rtnetlink(7): 82 is nobody else's).
pub(crate) const PROTOCOL: u8 = 82;
/// Metric of unreachable routes: any other route of the prefix is better.
pub(crate) const UNREACHABLE_METRIC: u32 = 1_000_000;
const NETLINK_WAIT: std::time::Duration = std::time::Duration::from_secs(5);
