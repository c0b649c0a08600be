//! Address pools of clusters and the host numbers of their nodes.
//!
//! Owns which pools are admitted and the choice of a free number. Refuses to own the arithmetic of
//! addresses (rap-planner) and which numbers are taken.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use rap_contract::Reject;
use rap_types::Reason;

/// Pool of a cluster that names none.
pub const DEFAULT_IPV4_POOL: &str = "100.96.0.0/16";

/// Admits the text of an IPv4 pool (empty = default).
///
/// # Errors
/// `request.invalid` for a pool that is no network address, too small (/30 at least), too large
/// (/8 at most), or not private (RFC 1918, or the shared range 100.64.0.0/10 of RFC 6598).
pub fn check_pool(text: &str) -> Result<Ipv4Net, Reject> {
    let invalid = |what| Reject::new(Reason::RequestInvalid, what);
    let text = if text.is_empty() { DEFAULT_IPV4_POOL } else { text };
    let pool: Ipv4Net = text.parse().map_err(|_| invalid("ipv4_pool is not ADDRESS/PREFIX"))?;
    if pool.trunc() != pool {
        return Err(invalid("ipv4_pool has host bits"));
    }
    if !(8..=30).contains(&pool.prefix_len()) {
        return Err(invalid("ipv4_pool is not between /8 and /30"));
    }
    let shared = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
    if !pool.network().is_private() && !shared.contains(&pool) {
        return Err(invalid("ipv4_pool is not private"));
    }
    Ok(pool)
}

/// The smallest host number from 1 that is not in `taken` (numbers still in quarantine included).
///
/// # Errors
/// `overlay.exhausted` if that is above `capacity`.
pub fn choose_host_number(capacity: u32, taken: impl IntoIterator<Item = u32>) -> Result<u32, Reject> {
    let taken: std::collections::BTreeSet<u32> = taken.into_iter().collect();
    let mut free = 1;
    for number in taken.range(1..) {
        if *number != free {
            break;
        }
        free += 1;
    }
    if free > capacity {
        return Err(Reject::new(Reason::OverlayExhausted, "ipv4_pool"));
    }
    Ok(free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_pool_is_exhausted_and_a_hole_is_filled() {
        assert_eq!(choose_host_number(2, []), Ok(1));
        assert_eq!(choose_host_number(2, [2]), Ok(1));
        assert_eq!(choose_host_number(2, [1]), Ok(2));
        assert_eq!(choose_host_number(2, [2, 1]).unwrap_err().reason, Reason::OverlayExhausted);
    }

    #[test]
    fn pools_that_are_public_odd_or_of_a_wrong_size_are_refused() {
        assert_eq!(check_pool("").unwrap().to_string(), DEFAULT_IPV4_POOL);
        for pool in ["8.8.8.0/24", "10.0.0.1/24", "10.0.0.0/31", "0.0.0.0/0", "fd00::/64", "x"] {
            assert_eq!(check_pool(pool).unwrap_err().reason, Reason::RequestInvalid, "{pool}");
        }
    }

    proptest! {
        #[test]
        fn a_chosen_number_is_the_smallest_free_one(
            taken in proptest::collection::btree_set(0u32..300, 0..200)
        ) {
            let smallest = (1..=254).find(|number| !taken.contains(number));
            prop_assert_eq!(choose_host_number(254, taken.iter().copied()).ok(), smallest);
        }
    }
}
