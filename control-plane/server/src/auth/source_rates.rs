//! Calls per source, as the connection budgets count sources.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use rap_runtime::source_budget::source_of;

/// One bucket per source.
#[derive(Debug)]
pub struct SourceRates(DefaultKeyedRateLimiter<IpAddr>);

impl SourceRates {
    /// `per_second` calls with a burst of `burst`; zero counts as one.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst));
        Self(RateLimiter::keyed(quota))
    }

    /// Takes one call from the bucket of `source`; false if it is empty.
    pub fn admit(&self, source: IpAddr) -> bool {
        self.0.check_key(&source_of(source)).is_ok()
    }

    /// Forgets sources whose bucket is full again.
    pub fn forget_idle(&self) {
        self.0.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_own_burst_and_a_host_has_one_ipv6_block() {
        let rates = SourceRates::new(1, 3);
        let source = IpAddr::from([127, 0, 0, 1]);
        assert_eq!((0..5).filter(|_| rates.admit(source)).count(), 3);
        assert!(rates.admit(IpAddr::from([127, 0, 0, 2])));
        let addresses = (0..5).map(|host| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, host]));
        assert_eq!(addresses.filter(|source| rates.admit(*source)).count(), 3);
    }
}
