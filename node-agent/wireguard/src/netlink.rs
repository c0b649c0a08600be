//! State, MTU, addresses and routes of the interface, by netlink.
//!
//! Owns what it added. Refuses to own default routes: they need policy routing, which is not done here.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;

use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{AddressMessageBuilder, Handle, LinkUnspec, RouteMessageBuilder};

use crate::config::{DeviceConfig, TunConfig};
use crate::error::ConfigError;

/// An interface, with the addresses and routes that were added to it.
pub(crate) struct Interface {
    name: String,
    index: u32,
    shape: Shape,
}

/// Addresses and routes.
#[derive(Clone, Default)]
pub(crate) struct Shape {
    addresses: BTreeSet<IpNet>,
    routes: BTreeSet<IpNet>,
}

impl Shape {
    /// Addresses and routes of `config`. Prefixes inside the pools need no route of their own.
    pub(crate) fn of(config: &DeviceConfig) -> Self {
        let prefixes = config.peers.iter().flat_map(|peer| &peer.allowed_ips).map(IpNet::trunc);
        let routes = prefixes
            .filter(|prefix| prefix.prefix_len() > 0)
            .filter(|prefix| !config.addresses.iter().any(|own| own.contains(prefix)))
            .collect();
        Self { addresses: config.addresses.iter().copied().collect(), routes }
    }
}

impl Interface {
    /// Brings the new interface up.
    pub(crate) async fn set_up(config: &TunConfig, index: u32) -> io::Result<Self> {
        // The overlay has no link-local addresses. Set by netlink, because a hardened service cannot write
        // /proc/sys.
        let none = vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)];
        let none = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(none)]);
        let quiet = LinkUnspec::new_with_index(index).append_extra_attribute(none).build();
        if let Err(error) =
            with_netlink(|handle| async move { handle.link().set(quiet).execute().await }).await
        {
            tracing::debug!(%error, "no IPv6, or the interface gets a link-local address");
        }
        let up = LinkUnspec::new_with_index(index).mtu(config.mtu.into()).up().build();
        with_netlink(|handle| async move { handle.link().set(up).execute().await }).await?;
        Ok(Self { name: config.name.clone(), index, shape: Shape::default() })
    }

    /// Adds what is missing. If the kernel refuses, everything added by this call is removed again.
    pub(crate) async fn extend(&mut self, wanted: &Shape) -> Result<(), ConfigError> {
        let before = self.shape.clone();
        let result = self.add_missing(wanted).await;
        if result.is_err() {
            self.trim(&before).await;
        }
        result
    }

    /// Removes what is no longer wanted. What the kernel refuses to remove is tried again next time.
    pub(crate) async fn trim(&mut self, wanted: &Shape) {
        let stale: Vec<_> = self.shape.routes.difference(&wanted.routes).copied().collect();
        for route in stale {
            match self.change_route(route, false).await {
                Ok(()) => drop(self.shape.routes.remove(&route)),
                Err(error) => tracing::warn!(interface = self.name, %route, %error, "route not removed"),
            }
        }
        let stale: Vec<_> = self.shape.addresses.difference(&wanted.addresses).copied().collect();
        for address in &stale {
            match self.remove_address(*address).await {
                Ok(()) => drop(self.shape.addresses.remove(address)),
                Err(error) => tracing::warn!(interface = self.name, %address, %error, "address not removed"),
            }
        }
        if stale.iter().any(|address| address.addr().is_ipv4()) {
            self.restore_ipv4().await;
        }
    }

    async fn add_missing(&mut self, wanted: &Shape) -> Result<(), ConfigError> {
        let refused = |step: String| move |source| ConfigError::Interface { step, source };
        let missing: Vec<_> = wanted.addresses.difference(&self.shape.addresses).copied().collect();
        for address in missing {
            self.add_address(address).await.map_err(refused(format!("add address {address}")))?;
            self.shape.addresses.insert(address);
        }
        let missing: Vec<_> = wanted.routes.difference(&self.shape.routes).copied().collect();
        for route in missing {
            self.change_route(route, true).await.map_err(refused(format!("add route {route}")))?;
            self.shape.routes.insert(route);
        }
        Ok(())
    }

    /// The kernel removes more than was requested: with a primary IPv4 address the others of its subnet, and
    /// with the last address every IPv4 route of the interface.
    async fn restore_ipv4(&self) {
        for address in self.shape.addresses.iter().filter(|address| address.addr().is_ipv4()) {
            if let Err(error) = self.add_address(*address).await {
                tracing::warn!(interface = self.name, %address, %error, "address not restored");
            }
        }
        for route in self.shape.routes.iter().filter(|route| route.addr().is_ipv4()) {
            match self.change_route(*route, true).await {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    tracing::warn!(interface = self.name, %route, %error, "route not restored");
                }
                _ => {}
            }
        }
    }

    async fn add_address(&self, address: IpNet) -> io::Result<()> {
        let index = self.index;
        with_netlink(|handle| async move {
            let mut request = handle.address().add(index, address.addr(), address.prefix_len()).replace();
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            request.execute().await
        })
        .await
    }

    async fn remove_address(&self, address: IpNet) -> io::Result<()> {
        let message = match address {
            IpNet::V4(net) => AddressMessageBuilder::<std::net::Ipv4Addr>::new()
                .index(self.index)
                .address(net.addr(), net.prefix_len())
                .build(),
            IpNet::V6(net) => AddressMessageBuilder::<std::net::Ipv6Addr>::new()
                .index(self.index)
                .address(net.addr(), net.prefix_len())
                .build(),
        };
        with_netlink(|handle| async move { handle.address().del(message).execute().await }).await
    }

    async fn change_route(&self, route: IpNet, add: bool) -> io::Result<()> {
        let scope = if route.addr().is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
        let message = RouteMessageBuilder::<std::net::IpAddr>::new()
            .destination_prefix(route.addr(), route.prefix_len())
            .map_err(io::Error::other)?
            .output_interface(self.index)
            .scope(scope)
            .build();
        with_netlink(|handle| async move {
            if add {
                handle.route().add(message).execute().await
            } else {
                handle.route().del(message).execute().await
            }
        })
        .await
    }
}

/// Runs a request together with its netlink connection, which ends with the request.
async fn with_netlink<F, R>(request: F) -> io::Result<()>
where
    F: FnOnce(Handle) -> R,
    R: Future<Output = Result<(), rtnetlink::Error>>,
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

const NETLINK_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Peer;

    #[test]
    fn routes_are_what_the_pools_do_not_cover_and_never_the_default() {
        let peer = Peer {
            public_key: [7; 32].into(),
            preshared: None,
            endpoints: Vec::new(),
            allowed_ips: ["100.96.0.7/32", "fd00::7/128", "10.5.1.9/16", "0.0.0.0/0", "::/0", "fd01::/64"]
                .map(|net| net.parse().unwrap())
                .to_vec(),
            keepalive: None,
            deadline: None,
            survive_forever: false,
        };
        let addresses = ["100.96.0.1/16", "fd00::1/48"].map(|net| net.parse().unwrap()).to_vec();
        let config = DeviceConfig { addresses, routed: Vec::new(), peers: vec![peer], deadline: None };
        let routes: Vec<_> = Shape::of(&config).routes.iter().map(IpNet::to_string).collect();
        assert_eq!(routes, ["10.5.0.0/16", "fd01::/64"]);
    }
}
