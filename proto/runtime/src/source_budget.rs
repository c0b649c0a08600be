//! How many connections there may be at once that cost more than they have shown: in all, and from one source.
//!
//! Owns the counts and what one source is. Refuses to own what happens to a refused connection.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Shared counts; clones are the same budget.
#[derive(Debug, Clone)]
pub struct SourceBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    total: u32,
    per_source: u32,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    by_source: BTreeMap<IpAddr, u32>,
}

/// One connection's part of the budget; dropping it gives it back.
#[derive(Debug)]
pub struct Ticket {
    budget: SourceBudget,
    source: IpAddr,
}

impl SourceBudget {
    /// A budget of `total` connections, of which one source may have `per_source`.
    pub fn new(total: u32, per_source: u32) -> Self {
        Self(Arc::new(Budget { total, per_source, counts: Mutex::default() }))
    }

    /// A ticket for a connection from `address`; `None` if none is left for its source or in all.
    pub fn take(&self, address: IpAddr) -> Option<Ticket> {
        let source = source_of(address);
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.by_source.get(&source).copied().unwrap_or(0);
        if counts.all >= self.0.total || own >= self.0.per_source {
            return None;
        }
        counts.all += 1;
        counts.by_source.insert(source, own + 1);
        Some(Ticket { budget: self.clone(), source })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = self.budget.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(own) = counts.by_source.get_mut(&self.source) {
            *own -= 1;
            if *own == 0 {
                counts.by_source.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, also where it is mapped into IPv6, or the /56 of an IPv6 address,
/// because one customer usually has a whole /56 to choose addresses from.
pub fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> 56)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_take_the_part_of_another_and_tickets_come_back() {
        let budget = SourceBudget::new(3, 2);
        let [one, two, three] = [1, 2, 3].map(|host| IpAddr::from([127, 0, 0, host]));
        let first = budget.take(one).unwrap();
        let _second = budget.take(one).unwrap();
        assert!(budget.take(one).is_none(), "the source has its part");
        let _third = budget.take(two).unwrap();
        assert!(budget.take(three).is_none(), "the total is used up");
        drop(first);
        let _fourth = budget.take(three).unwrap();
        assert_eq!(budget.0.counts.lock().unwrap().by_source.len(), 3);
        drop(_fourth);
        assert_eq!(
            budget.0.counts.lock().unwrap().by_source.len(),
            2,
            "a source without tickets is forgotten"
        );
    }

    #[test]
    fn one_ipv6_network_is_one_source_and_mapped_addresses_are_ipv4() {
        let source = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_eq!(source("2001:db8::1"), source("2001:db8:0:ff::1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:100::1"));
        assert_eq!(source("::ffff:127.0.0.1"), source("127.0.0.1"));
        let budget = SourceBudget::new(9, 1);
        let _first = budget.take("2001:db8::1".parse().unwrap()).unwrap();
        assert!(budget.take("2001:db8::2".parse().unwrap()).is_none());
    }
}
