//! The interface in the eyes of the kernel: up, MTU, addresses, routes. Refuses to own default routes:
//! sending all traffic of a host into the overlay takes policy routing and is not done here.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;

use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{AddressMessageBuilder, Handle, LinkUnspec, RouteMessageBuilder};

use crate::config::{DeviceTable, TunConfig};
use crate::error::TableError;

/// An interface and what was put on it.
pub(crate) struct Interface {
    name: String,
    index: u32,
    addresses: BTreeSet<IpNet>,
    routes: BTreeSet<IpNet>,
}

impl Interface {
    /// Takes the fresh interface up.
    pub(crate) async fn set_up(config: &TunConfig) -> io::Result<Self> {
        let index = nix::net::if_::if_nametoindex(config.name.as_str())?;
        // The overlay has no link-local addresses. Without IPv6 the file is missing, and so are they.
        let setting = format!("/proc/sys/net/ipv6/conf/{}/addr_gen_mode", config.name);
        if let Err(error) = std::fs::write(setting, ADDR_GEN_NONE) {
            tracing::debug!(%error, "interface may get a link-local address");
        }
        let up = LinkUnspec::new_with_index(index).mtu(config.mtu.into()).up().build();
        with_netlink(|handle| async move { handle.link().set(up).execute().await }).await?;
        Ok(Self { name: config.name.clone(), index, addresses: BTreeSet::new(), routes: BTreeSet::new() })
    }

    /// Adds what `table` has and the interface has not.
    pub(crate) async fn extend(&mut self, table: &DeviceTable) -> Result<(), TableError> {
        let refused = |step: String| move |source| TableError::Interface { step, source };
        for address in wanted_addresses(table) {
            if !self.addresses.contains(&address) {
                self.add_address(address).await.map_err(refused(format!("add address {address}")))?;
                self.addresses.insert(address);
            }
        }
        for route in wanted_routes(table) {
            if !self.routes.contains(&route) {
                self.change_route(route, true).await.map_err(refused(format!("add route {route}")))?;
                self.routes.insert(route);
            }
        }
        Ok(())
    }

    /// Removes what the interface has and `table` has not. What the kernel refuses stays for next time.
    pub(crate) async fn trim(&mut self, table: &DeviceTable) {
        let stale: Vec<_> = self.routes.difference(&wanted_routes(table)).copied().collect();
        for route in stale {
            match self.change_route(route, false).await {
                Ok(()) => drop(self.routes.remove(&route)),
                Err(error) => tracing::warn!(interface = self.name, %route, %error, "route not removed"),
            }
        }
        let stale: Vec<_> = self.addresses.difference(&wanted_addresses(table)).copied().collect();
        for address in &stale {
            match self.remove_address(*address).await {
                Ok(()) => drop(self.addresses.remove(address)),
                Err(error) => tracing::warn!(interface = self.name, %address, %error, "address not removed"),
            }
        }
        if stale.iter().any(|address| address.addr().is_ipv4()) {
            self.restore_addresses().await;
        }
    }

    /// With a primary IPv4 address the kernel also removes the others of its subnet.
    async fn restore_addresses(&self) {
        for address in self.addresses.iter().filter(|address| address.addr().is_ipv4()) {
            if let Err(error) = self.add_address(*address).await {
                tracing::warn!(interface = self.name, %address, %error, "address not restored");
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

fn wanted_addresses(table: &DeviceTable) -> BTreeSet<IpNet> {
    table.addresses.iter().copied().collect()
}

/// Prefixes of peers that the pools of the own addresses do not already bring.
fn wanted_routes(table: &DeviceTable) -> BTreeSet<IpNet> {
    let prefixes = table.peers.iter().flat_map(|peer| &peer.allowed_ips).map(IpNet::trunc);
    prefixes
        .filter(|prefix| prefix.prefix_len() > 0)
        .filter(|prefix| !table.addresses.iter().any(|own| own.contains(prefix)))
        .collect()
}

/// Runs a request with the connection that carries it, which ends with it.
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

/// IN6_ADDR_GEN_MODE_NONE of the kernel.
const ADDR_GEN_NONE: &str = "1";
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
        let table = DeviceTable { addresses, peers: vec![peer], deadline: None };
        let routes: Vec<_> = wanted_routes(&table).iter().map(IpNet::to_string).collect();
        assert_eq!(routes, ["10.5.0.0/16", "fd01::/64"]);
    }
}
