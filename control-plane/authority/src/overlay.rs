//! Overlay addresses: prefixes of a cluster and the host numbers of its nodes.
//!
//! Owns the arithmetic and the choice of a free number. Refuses to own which numbers are taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use rap_contract::Reject;
use rap_types::{ClusterId, Digest, Reason};

/// Pool of a cluster that names none.
pub const DEFAULT_IPV4_POOL: &str = "100.96.0.0/16";

/// The address ranges of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlay {
    /// IPv4 pool.
    pub ipv4: Ipv4Net,
    /// IPv6 ULA /48.
    pub ipv6: Ipv6Net,
}

/// A node's two addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverlayAddresses {
    /// In the IPv4 pool.
    pub ipv4: Ipv4Addr,
    /// In the IPv6 prefix.
    pub ipv6: Ipv6Addr,
}

impl Overlay {
    /// The ranges of `cluster` with the given IPv4 pool (empty = default).
    ///
    /// # Errors
    /// `request.invalid` for a pool that is no network address, too small (/30 at least), too large
    /// (/8 at most), or not private (RFC 1918, or the shared range 100.64.0.0/10).
    pub fn new(cluster: ClusterId, ipv4_pool: &str) -> Result<Self, Reject> {
        let invalid = |what| Reject::new(Reason::RequestInvalid, what);
        let text = if ipv4_pool.is_empty() { DEFAULT_IPV4_POOL } else { ipv4_pool };
        let ipv4: Ipv4Net = text.parse().map_err(|_| invalid("ipv4_pool is not ADDRESS/PREFIX"))?;
        if ipv4.trunc() != ipv4 {
            return Err(invalid("ipv4_pool has host bits"));
        }
        if !(8..=30).contains(&ipv4.prefix_len()) {
            return Err(invalid("ipv4_pool is not between /8 and /30"));
        }
        let shared = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
        if !ipv4.network().is_private() && !shared.contains(&ipv4) {
            return Err(invalid("ipv4_pool is not private"));
        }
        Ok(Self { ipv4, ipv6: ula(cluster) })
    }

    /// The addresses of a host number; `None` outside the pool.
    pub fn addresses(&self, host_number: u32) -> Option<OverlayAddresses> {
        if host_number == 0 || host_number > self.last_host_number() {
            return None;
        }
        let ipv4 = Ipv4Addr::from_bits(self.ipv4.network().to_bits() + host_number);
        let ipv6 = Ipv6Addr::from_bits(self.ipv6.network().to_bits() | u128::from(host_number));
        Some(OverlayAddresses { ipv4, ipv6 })
    }

    /// The smallest number not in `taken` (sorted or not; numbers still in quarantine included).
    ///
    /// # Errors
    /// `overlay.exhausted`.
    pub fn choose_host_number(&self, taken: impl IntoIterator<Item = u32>) -> Result<u32, Reject> {
        let taken: std::collections::BTreeSet<u32> = taken.into_iter().collect();
        let mut free = 1;
        for number in taken.range(1..) {
            if *number != free {
                break;
            }
            free += 1;
        }
        if free > self.last_host_number() {
            return Err(Reject::new(Reason::OverlayExhausted, "ipv4_pool"));
        }
        Ok(free)
    }

    /// A node's IPv4 address with the pool's prefix, as documents carry it.
    pub fn ipv4_text(&self, addresses: &OverlayAddresses) -> String {
        format!("{}/{}", addresses.ipv4, self.ipv4.prefix_len())
    }

    /// A node's IPv6 address with the cluster's prefix, as documents carry it.
    pub fn ipv6_text(&self, addresses: &OverlayAddresses) -> String {
        format!("{}/{}", addresses.ipv6, self.ipv6.prefix_len())
    }

    /// True if `address` is one of this cluster's.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.ipv4.contains(&address),
            IpAddr::V6(address) => self.ipv6.contains(&address),
        }
    }

    /// The broadcast address is not given out.
    fn last_host_number(&self) -> u32 {
        (1u32 << (32 - self.ipv4.prefix_len())) - 2
    }
}

/// fd || first 40 bits of SHA-256("rap.ula.v1\0" || cluster id), /48.
fn ula(cluster: ClusterId) -> Ipv6Net {
    let digest = Digest::of(&[b"rap.ula.v1\0", cluster.as_bytes()]);
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&digest.as_bytes()[..5]);
    Ipv6Net::new_assert(Ipv6Addr::from(octets), 48)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn overlay(pool: &str) -> Overlay {
        Overlay::new(ClusterId::from_bytes([3; 16]), pool).unwrap()
    }

    #[test]
    fn the_default_pool_gives_the_first_host_its_first_address() {
        let overlay = overlay("");
        let addresses = overlay.addresses(1).unwrap();
        assert_eq!(overlay.ipv4_text(&addresses), "100.96.0.1/16");
        assert!(overlay.contains(IpAddr::V6(addresses.ipv6)));
        assert!(overlay.ipv6_text(&addresses).starts_with("fd"));
        assert_eq!(overlay.addresses(0), None);
        assert_eq!(overlay.addresses(65_535), None);
        assert_eq!(overlay.addresses(65_534).unwrap().ipv4, Ipv4Addr::new(100, 96, 255, 254));
    }

    #[test]
    fn a_full_pool_is_exhausted_and_a_hole_is_filled() {
        let overlay = overlay("10.0.0.0/30");
        assert_eq!(overlay.choose_host_number([]), Ok(1));
        assert_eq!(overlay.choose_host_number([2]), Ok(1));
        assert_eq!(overlay.choose_host_number([1]), Ok(2));
        assert_eq!(overlay.choose_host_number([2, 1]).unwrap_err().reason, Reason::OverlayExhausted);
    }

    #[test]
    fn pools_that_are_public_odd_or_of_a_wrong_size_are_refused() {
        for pool in ["8.8.8.0/24", "10.0.0.1/24", "10.0.0.0/31", "0.0.0.0/0", "fd00::/64", "x"] {
            let reject = Overlay::new(ClusterId::ZERO, pool).unwrap_err();
            assert_eq!(reject.reason, Reason::RequestInvalid, "{pool}");
        }
    }

    proptest! {
        #[test]
        fn a_chosen_number_is_free_and_has_addresses_in_both_ranges(
            taken in proptest::collection::btree_set(0u32..300, 0..200)
        ) {
            let overlay = overlay("10.1.0.0/24");
            match overlay.choose_host_number(taken.iter().copied()) {
                Ok(number) => {
                    prop_assert!(!taken.contains(&number));
                    let addresses = overlay.addresses(number).unwrap();
                    prop_assert!(overlay.contains(addresses.ipv4.into()));
                    prop_assert!(overlay.contains(addresses.ipv6.into()));
                }
                Err(_) => prop_assert!((1..=254).all(|number| taken.contains(&number))),
            }
        }
    }
}
