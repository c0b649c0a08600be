//! How many connections may be unproven at once, in all and per source.
//!
//! Owns the count; a ticket gives its place back when dropped.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Budget;

/// Counts unproven connections.
#[derive(Debug, Clone)]
pub(crate) struct AcceptBudget {
    limits: Budget,
    sources: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// One place in the budget.
#[derive(Debug)]
pub(crate) struct Ticket {
    source: IpAddr,
    sources: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

impl AcceptBudget {
    pub(crate) fn new(limits: Budget) -> Self {
        Self { limits, sources: Arc::default() }
    }

    /// A place for a connection from `address`, or `None` when there is none left.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Ticket> {
        let source = source_of(address);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = sources.values().sum();
        let own = sources.get(&source).copied().unwrap_or(0);
        if total >= self.limits.in_flight || own >= self.limits.per_source {
            return None;
        }
        sources.insert(source, own + 1);
        Some(Ticket { source, sources: self.sources.clone() })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        match sources.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                sources.remove(&self.source);
            }
        }
    }
}

/// One IPv6 host usually has a whole /64 to choose addresses from.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_capped_per_source_and_in_all_and_come_back() {
        let budget = AcceptBudget::new(Budget { in_flight: 3, per_source: 2 });
        let a: IpAddr = "127.0.0.1".parse().unwrap();
        let b: IpAddr = "127.0.0.2".parse().unwrap();
        let c: IpAddr = "127.0.0.3".parse().unwrap();
        let first = budget.enter(a).unwrap();
        let _second = budget.enter(a).unwrap();
        assert!(budget.enter(a).is_none(), "source cap");
        let _third = budget.enter(b).unwrap();
        assert!(budget.enter(c).is_none(), "total cap");
        drop(first);
        assert!(budget.enter(c).is_some());
    }

    #[test]
    fn one_ipv6_network_is_one_source_and_mapped_addresses_are_ipv4() {
        let source = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:127.0.0.1"), source("127.0.0.1"));
    }
}
