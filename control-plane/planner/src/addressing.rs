//! Deterministic overlay addresses: an IPv6 ULA /48 and an IPv4 pool per cluster, one host number per node.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use rap_types::{ClusterId, Digest};

/// fd || first 40 bits of SHA-256("rap.ula.v1\0" || cluster id), /48 (RFC 4193 shape).
pub fn ipv6_prefix(cluster: ClusterId) -> Ipv6Net {
    let digest = Digest::of(&[b"rap.ula.v1\0", cluster.as_bytes()]);
    let mut bytes = [0; 16];
    bytes[0] = 0xfd;
    bytes[1..6].copy_from_slice(&digest.as_bytes()[..5]);
    Ipv6Net::new_assert(Ipv6Addr::from(bytes), 48)
}

/// How many host numbers a pool has: network and broadcast address are not given out.
pub fn capacity(pool: Ipv4Net) -> u32 {
    let hosts = 1u64 << (32 - u32::from(pool.prefix_len()));
    u32::try_from(hosts.saturating_sub(2)).unwrap_or(u32::MAX)
}

/// Addresses of host number `number` (from 1); `None` outside the pool.
pub fn addresses(cluster: ClusterId, pool: Ipv4Net, number: u32) -> Option<(Ipv4Addr, Ipv6Addr)> {
    if number == 0 || number > capacity(pool) {
        return None;
    }
    let ipv4 = Ipv4Addr::from(u32::from(pool.network()) + number);
    let ipv6 = Ipv6Addr::from(u128::from(ipv6_prefix(cluster).network()) | u128::from(number));
    Some((ipv4, ipv6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_ula_differ_by_cluster_and_never_change() {
        let one = ipv6_prefix(ClusterId::from_bytes([1; 16]));
        assert_eq!(one.to_string(), ipv6_prefix(ClusterId::from_bytes([1; 16])).to_string());
        assert_ne!(one, ipv6_prefix(ClusterId::from_bytes([2; 16])));
        assert_eq!(one.network().octets()[0], 0xfd);
        assert_eq!(one.prefix_len(), 48);
    }

    #[test]
    fn numbers_fill_the_pool_but_not_its_network_or_broadcast_address() {
        let pool: Ipv4Net = "100.96.0.0/29".parse().unwrap();
        let cluster = ClusterId::from_bytes([1; 16]);
        assert_eq!(capacity(pool), 6);
        assert_eq!(addresses(cluster, pool, 0), None);
        assert_eq!(addresses(cluster, pool, 7), None);
        let (ipv4, ipv6) = addresses(cluster, pool, 6).unwrap();
        assert_eq!(ipv4, Ipv4Addr::new(100, 96, 0, 6));
        assert_eq!(ipv6.octets()[8..], [0, 0, 0, 0, 0, 0, 0, 6]);
    }
}
