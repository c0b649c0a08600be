//! Overlay pools, and the addresses in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Says whether `pool` can be a cluster's: a network address of /8 to /30 within 10.0.0.0/8, 172.16.0.0/12,
/// 192.168.0.0/16 (RFC 1918) or 100.64.0.0/10 (RFC 6598). Everything else is somebody's, or nobody's.
///
/// # Errors
/// Says why not.
pub fn ipv4_pool(pool: Ipv4Net) -> Result<(), &'static str> {
    if pool.trunc() != pool {
        return Err("the IPv4 pool has host bits");
    }
    if !(8..=30).contains(&pool.prefix_len()) {
        return Err("the IPv4 pool is not between /8 and /30");
    }
    let private = [([10, 0, 0, 0], 8), ([172, 16, 0, 0], 12), ([192, 168, 0, 0], 16), ([100, 64, 0, 0], 10)];
    let within = |(octets, length)| Ipv4Net::new_assert(Ipv4Addr::from(octets), length).contains(&pool);
    if private.into_iter().any(within) { Ok(()) } else { Err("the IPv4 pool is not private") }
}

/// Says whether `pool` can be a cluster's: a network address of /32 to /120 within fd00::/8 (RFC 4193).
fn ipv6_pool(pool: Ipv6Net) -> Result<(), &'static str> {
    if pool.trunc() != pool {
        return Err("the IPv6 prefix has host bits");
    }
    if !(32..=120).contains(&pool.prefix_len()) {
        return Err("the IPv6 prefix is not between /32 and /120");
    }
    let local = Ipv6Net::new_assert(Ipv6Addr::from(0xfd << 120), 8);
    if local.contains(&pool) { Ok(()) } else { Err("the IPv6 prefix is not unique local") }
}

/// The two pools of a cluster, both sensible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverlayPools {
    ipv4: Ipv4Net,
    ipv6: Ipv6Net,
}

impl OverlayPools {
    /// These pools.
    ///
    /// # Errors
    /// Says what makes no sense of them.
    pub fn of(ipv4: Ipv4Net, ipv6: Ipv6Net) -> Result<Self, &'static str> {
        ipv4_pool(ipv4)?;
        ipv6_pool(ipv6)?;
        Ok(Self { ipv4, ipv6 })
    }

    /// The pools in which a node has its own addresses, each written as ADDRESS/PREFIX.
    ///
    /// # Errors
    /// Says what makes no sense: a pool, or an address in it that is no host's.
    pub fn of_own(ipv4: &str, ipv6: &str) -> Result<Self, &'static str> {
        let own4: Ipv4Net = ipv4.parse().map_err(|_| "the own IPv4 address does not read")?;
        let own6: Ipv6Net = ipv6.parse().map_err(|_| "the own IPv6 address does not read")?;
        let pools = Self::of(own4.trunc(), own6.trunc())?;
        pools.host(own4.addr().into())?;
        pools.host(own6.addr().into())?;
        Ok(pools)
    }

    /// Says whether these are the pools that a cluster's policy names; an empty text names none.
    ///
    /// # Errors
    /// Says which is another one.
    pub fn are(&self, ipv4: &str, ipv6: &str) -> Result<(), &'static str> {
        if !ipv4.is_empty() && ipv4.parse() != Ok(self.ipv4) {
            return Err("the own IPv4 address is in another pool than the cluster's");
        }
        if !ipv6.is_empty() && ipv6.parse() != Ok(self.ipv6) {
            return Err("the own IPv6 address is in another prefix than the cluster's");
        }
        Ok(())
    }

    /// Says whether a peer can have these addresses: each is of its family, in the pool, and a host's.
    ///
    /// # Errors
    /// Says why not.
    pub fn hosts(&self, ipv4: &str, ipv6: &str) -> Result<(), &'static str> {
        let ipv4: Ipv4Addr = ipv4.parse().map_err(|_| "an overlay address does not read")?;
        let ipv6: Ipv6Addr = ipv6.parse().map_err(|_| "an overlay address does not read")?;
        self.host(ipv4.into())?;
        self.host(ipv6.into())
    }

    /// The pools, IPv4 first.
    pub fn prefixes(&self) -> [IpNet; 2] {
        [self.ipv4.into(), self.ipv6.into()]
    }

    /// True if an address, or the IPv4 address that it stands for, lies in one of the pools.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.prefixes().iter().any(|pool| pool.contains(&address))
    }

    fn host(&self, address: IpAddr) -> Result<(), &'static str> {
        let (inside, edge) = match address {
            IpAddr::V4(ip) => {
                (self.ipv4.contains(&ip), ip == self.ipv4.network() || ip == self.ipv4.broadcast())
            }
            // The first address of a subnet is that of its routers (RFC 4291 section 2.6.1).
            IpAddr::V6(ip) => (self.ipv6.contains(&ip), ip == self.ipv6.network()),
        };
        match (inside, edge) {
            (false, _) => Err("an overlay address is outside the cluster's pools"),
            (true, true) => Err("an overlay address is the network's or the broadcast address of its pool"),
            (true, false) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_that_are_others_or_nobodys_are_refused() {
        for pool in ["10.0.0.0/8", "100.96.0.0/16", "192.168.7.0/30", "172.31.0.0/16", "100.64.0.0/10"] {
            assert_eq!(ipv4_pool(pool.parse().unwrap()), Ok(()), "{pool}");
        }
        let bad = [
            "0.0.0.0/0",
            "0.0.0.0/8",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/8",
            "240.0.0.0/8",
            "8.0.0.0/8",
            "192.168.0.0/15",
            "172.16.0.0/11",
            "100.64.0.0/9",
            "10.0.0.1/24",
            "10.0.0.0/31",
        ];
        for pool in bad {
            assert!(ipv4_pool(pool.parse().unwrap()).is_err(), "{pool}");
        }
        assert_eq!(ipv6_pool("fd00:1:2::/48".parse().unwrap()), Ok(()));
        for pool in ["::/0", "::1/128", "fe80::/64", "ff00::/48", "2001:db8::/48", "fd00::/8", "fd00::1/48"] {
            assert!(ipv6_pool(pool.parse().unwrap()).is_err(), "{pool}");
        }
    }

    #[test]
    fn own_addresses_are_hosts_of_a_sensible_pool() {
        let own = |ipv4: &str, ipv6: &str| OverlayPools::of_own(ipv4, ipv6);
        let pools = own("100.96.0.5/16", "fd00::5/48").unwrap();
        assert_eq!(pools.prefixes().map(|net| net.to_string()), ["100.96.0.0/16", "fd00::/48"]);
        assert_eq!(pools.are("100.96.0.0/16", "fd00::/48"), Ok(()));
        assert_eq!(pools.are("", ""), Ok(()), "a policy of an older release names none");
        assert!(pools.are("0.0.0.0/0", "fd00::/48").is_err());
        assert!(pools.are("100.96.0.0/16", "fd00:9::/48").is_err());
        for bad in [
            "10.0.0.1/0",
            "127.0.0.1/8",
            "8.8.8.8/8",
            "100.96.0.0/16",
            "100.96.255.255/16",
            "10.0.0.1",
            "x/8",
        ] {
            assert!(own(bad, "fd00::5/48").is_err(), "{bad}");
        }
        for bad in ["fd00::5/0", "::1/48", "fe80::5/64", "fd00::/48", "100.96.0.5/16"] {
            assert!(own("100.96.0.5/16", bad).is_err(), "{bad}");
        }
        assert!(own("10.0.0.1/8", "fd00::5/48").is_ok(), "the largest pool");
    }

    #[test]
    fn peers_are_hosts_of_the_clusters_own_pools() {
        let pools = OverlayPools::of_own("100.96.0.5/16", "fd00::5/48").unwrap();
        assert_eq!(pools.hosts("100.96.0.9", "fd00::9"), Ok(()));
        for bad in ["8.8.8.8", "100.97.0.1", "100.96.0.0", "100.96.255.255", "127.0.0.1", "100.96.0.9/32", ""]
        {
            assert!(pools.hosts(bad, "fd00::9").is_err(), "{bad}");
        }
        for bad in ["fd01::9", "fd00::", "::1", "::ffff:100.96.0.9", "100.96.0.9", ""] {
            assert!(pools.hosts("100.96.0.9", bad).is_err(), "{bad}");
        }
        for (address, inside) in [
            ("100.96.0.0", true),
            ("::ffff:100.96.0.9", true),
            ("fd00::", true),
            ("100.97.0.1", false),
            ("fd01::9", false),
        ] {
            assert_eq!(pools.contain(address.parse().unwrap()), inside, "{address}");
        }
    }
}
