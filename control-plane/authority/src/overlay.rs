//! Address pools of clusters: which are admitted. Refuses to own the arithmetic of addresses
//! (rap-planner) and the choice of host numbers (rap-store, in one statement).

use ipnet::Ipv4Net;
use rap_contract::Reject;
use rap_types::{Reason, sense};

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
    sense::ipv4_pool(pool).map_err(invalid)?;
    Ok(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_that_are_public_odd_or_of_a_wrong_size_are_refused() {
        assert_eq!(check_pool("").unwrap().to_string(), DEFAULT_IPV4_POOL);
        for pool in ["8.8.8.0/24", "10.0.0.1/24", "10.0.0.0/31", "0.0.0.0/0", "fd00::/64", "x"] {
            assert_eq!(check_pool(pool).unwrap_err().reason, Reason::RequestInvalid, "{pool}");
        }
    }
}
